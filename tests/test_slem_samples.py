"""Samples: what a channel looks like says nothing of which one it is, and what cannot be told is not asked."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slem_reference import block_number, unmix_cyclic
from slem_setup import PATCH, save_case, slem

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.pretext.contrast import shows
from nnunet_volf.pretext.slem import sampler as sampler_module
from nnunet_volf.pretext.slem.appearance import Shade, blank, draw_shade, empty_voxels, equalise
from nnunet_volf.pretext.slem.sampler import tellable_blocks
from nnunet_volf.pretext.slem.settings import SLeMSettings
from nnunet_volf.randomness import sample_rng


@pytest.fixture
def textured(tmp_path: Path) -> UnlabeledCases:
    return save_case(tmp_path, np.random.default_rng(0).normal(size=(2, 14, 30, 28)))


def test_a_sample_is_reproducible_and_its_sampler_travels_to_workers(textured: UnlabeledCases) -> None:
    sampler = slem().sampler(training=True)
    again = pickle.loads(pickle.dumps(sampler))
    (first,), (second,) = (s.draw(sample_rng(1, 2), textured, "case") for s in (sampler, again))
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["target"], second["target"])
    assert first["keys"] == ("case",)
    assert first["image"].dtype == torch.float32
    assert first["target"].dtype == torch.int64
    assert first["target"].shape == (1,)
    assert first["image"].shape == (2, *PATCH)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_code_undoes_a_sample_whatever_its_geometry(textured: UnlabeledCases, flip: float) -> None:
    """Were an image flipped after it was recombined, its blocks would have moved and the class be another."""
    pretext = slem(flip=flip, scale=[1.0, 1.0])
    sampler = pretext.sampler(training=True)
    for number in range(8):
        (sample,) = sampler.draw(sample_rng(0, number), textured, "case")
        undone = unmix_cyclic(sample["image"].numpy(), pretext.grid, sample["code"])
        np.testing.assert_array_equal(undone, sample["original"].numpy())
        assert pretext.table is not None
        assert pretext.table[int(sample["target"])] == sample["code"]


def test_the_class_says_the_same_of_a_flipped_crop_as_of_the_crop(tmp_path: Path) -> None:
    """A voxel of channel 0 is marked, so that which channel shows it can be seen in the recombined image."""
    image = np.random.default_rng(0).normal(size=(2, *PATCH)).clip(-1, 1)
    image[0, 0, 0, 0] = 50
    cases = save_case(tmp_path, image)
    pretext = slem(flip=1.0, scale=[1.0, 1.0], intensity=False)
    for number in range(6):
        (sample,) = pretext.sampler(training=True).draw(sample_rng(0, number), cases, "case")
        channel, *voxel = np.argwhere(sample["image"].numpy() > 10)[0].tolist()
        assert voxel == [side - 1 for side in PATCH], "the corner has gone to the other end of each axis"
        assert channel == (0 - sample["code"][block_number(voxel, PATCH, pretext.grid)]) % 2


def test_validation_samples_are_neither_flipped_nor_shaded(textured: UnlabeledCases) -> None:
    sampler = slem(flip=1.0).sampler()
    settings = sampler.settings
    assert (settings.flip, settings.intensity, settings.scale) == (0.0, False, (1.0, 1.0))
    assert draw_shade(sample_rng(0, 0), 2, settings) == Shade((1.0, 1.0), (0.0, 0.0))


def test_classes_are_drawn_evenly(textured: UnlabeledCases) -> None:
    sampler = slem(patch=(8, 16), grid=[1, 2], scale=[1.0, 1.0], intensity=False).sampler()
    rng = np.random.default_rng(0)
    drawn = [sampler._draw_target(rng, torch.ones(2, dtype=torch.bool))[1][0] for _ in range(2000)]
    assert np.bincount(drawn, minlength=4).min() > 420  # 500 expected of each; four standard deviations


# ------------------------------------------------------------------------------------------- what gives channels away


def test_empty_voxels_are_where_all_channels_are_at_their_smallest_value() -> None:
    image = torch.rand(2, 4, 5, 6) + 1
    image[:, 0] = torch.tensor([-0.5, -3.0])[:, None, None]
    image[0, 1] = -0.5
    empty = empty_voxels(image)
    assert empty[0].all()
    assert not empty[1:].any(), "one channel alone at its smallest is not empty"


def test_empty_voxels_are_also_those_that_nnunets_mask_has_left_at_0() -> None:
    image = torch.randn(3, 6, 6)
    image[:, :2] = 0
    empty = empty_voxels(image)
    assert empty[:2].all()
    assert empty[2:].float().mean() < 0.05


@given(channels=st.integers(2, 4), seed=st.integers(0, 99))
def test_channels_differ_by_the_drawn_shade_only(channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, 6, 7, 5)) * rng.uniform(0.2, 5, (channels, 1, 1, 1))
    image += rng.normal(0, 3, (channels, 1, 1, 1))
    empty = np.zeros((6, 7, 5), dtype=bool)
    empty[:2] = True
    shade = draw_shade(rng, channels, SLeMSettings())
    out = equalise(torch.from_numpy(image), torch.from_numpy(empty), shade).numpy()

    inside = [[image[(c, *v)] for v in itertools.product(range(6), range(7), range(5)) if not empty[v]]
              for c in range(channels)]  # fmt: skip
    mean, spread = np.mean([np.mean(v) for v in inside]), np.mean([np.std(v) for v in inside])
    for channel in range(channels):
        values = out[channel][~empty]
        assert values.mean() == pytest.approx(mean + shade.brightness[channel] * spread, abs=1e-6)
        assert values.std() == pytest.approx(shade.contrast[channel] * spread, rel=1e-6)


def test_flat_and_wholly_empty_images_stay_finite() -> None:
    flat = torch.full((2, 4, 4, 4), 7.0)
    shade = Shade((1.5, 0.7), (0.5, -0.5))
    for empty in (torch.zeros(4, 4, 4, dtype=torch.bool), torch.ones(4, 4, 4, dtype=torch.bool)):
        assert torch.isfinite(equalise(flat, empty, shade)).all()
    assert empty_voxels(flat).all()
    assert (blank(flat, empty_voxels(flat)) == 0).all()


def test_neither_brightness_nor_the_outside_tells_which_channel_is_shown(tmp_path: Path) -> None:
    """A threshold on a block's mean, or on the outside, finds the channel in the raw data and fails on samples."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 12, 24, 24)) * np.array([1.0, 0.4])[:, None, None, None]
    image += np.array([1.0, -1.0])[:, None, None, None]
    image[:, :, :4] = np.array([-4.0, -2.5])[:, None, None, None]  # air
    cases = save_case(tmp_path, image)
    assert image[0].mean() > image[1].mean() + 1

    pretext = slem(scale=[1.0, 1.0])
    sampler = pretext.sampler(training=True)
    differences, true, outside = [], [], []
    for number in range(150):
        (sample,) = sampler.draw(sample_rng(0, number), cases, "case")
        inside = sample["original"].abs().sum(0) > 0
        outside.append(sample["image"][:, ~inside])
        part = (slice(None), slice(8), slice(8), slice(10))  # the first block
        means = [float(channel[inside[part[1:]]].mean()) for channel in sample["image"][part]]
        spreads = [float(channel[inside[part[1:]]].std()) for channel in sample["image"][part]]
        differences.append((means[0] - means[1], spreads[0] - spreads[1]))
        true.append(sample["code"][0] == 0)
    assert sum(part.numel() for part in outside) > 1000
    assert all((part == 0).all() for part in outside)
    for cue in np.array(differences).T:
        found = np.mean((cue > 0) == np.array(true))
        assert 0.36 < found < 0.64, "guessing finds half of 150, give or take three standard errors of 0.04"


# ------------------------------------------------------------------------------------------------- what cannot be told


def test_blocks_are_tellable_where_every_channel_shows_something() -> None:
    image = torch.randn(2, *PATCH)
    image[:, :, :8, :10] = 0.3  # an empty block
    image[1, :, 8:, 10:] = 0.3  # a block that lacks a channel
    assert tellable_blocks(image, (1, 2, 2)).tolist() == [False, True, True, False]


def test_a_case_with_a_missing_channel_asks_nothing(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(2, *PATCH))
    image[1] = 0.0
    cases = save_case(tmp_path, image)
    (sample,) = slem().sampler(training=True).draw(sample_rng(0, 0), cases, "case")
    assert sample["target"].tolist() == [-1]
    (sample,) = slem(head="blocks").sampler(training=True).draw(sample_rng(0, 0), cases, "case")
    assert sample["target"].tolist() == [-1] * 4
    assert torch.isfinite(sample["image"]).all()


def test_a_crop_with_an_empty_block_is_drawn_again_and_a_few_times_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).normal(size=(2, 8, 64, 64))
    image[:, :, :, :48] = -2  # air
    cases = save_case(tmp_path, image)
    crops: list[int] = []
    draw = sampler_module.draw_crop
    monkeypatch.setattr(sampler_module, "draw_crop", lambda *args: (crops.append(1), draw(*args))[1])

    sampler = slem(scale=[1.0, 1.0]).sampler()
    tries, asked = [], []
    for number in range(60):
        crops.clear()
        (sample,) = sampler.draw(sample_rng(0, number), cases, "case")
        tries.append(len(crops))
        asked.append(int(sample["target"]) != -1)
    assert max(tries) == 6
    assert min(tries) == 1
    assert all(asked[number] for number in range(60) if tries[number] < 6)
    assert 0 < np.sum(asked) < 60


def test_a_block_head_asks_for_the_blocks_that_show_something(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(2, *PATCH))
    image[:, :, :8, :10] = 0.3
    cases = save_case(tmp_path, image)
    (sample,) = slem(head="blocks", scale=[1.0, 1.0]).sampler().draw(sample_rng(0, 1), cases, "case")
    code = sample["code"]
    assert sample["target"].tolist() == [-1, *code[1:]]


def test_of_shuffled_blocks_the_one_that_shows_the_empty_block_is_not_asked_for(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(2, *PATCH))
    image[:, :, :8, :10] = 0.3
    cases = save_case(tmp_path, image)
    sampler = slem(head="blocks", shuffle_positions=True, scale=[1.0, 1.0]).sampler()
    moved = 0
    for number in range(12):
        (sample,) = sampler.draw(sample_rng(0, number), cases, "case")
        (unknown,) = np.flatnonzero(sample["target"].numpy() == -1)
        assert sample["code"][unknown] // 2 == 0, "it comes from block 0"
        moved += unknown != 0
    assert moved


def test_the_rule_for_showing_something_is_the_one_of_contrast_py() -> None:
    image = torch.randn(2, *PATCH)
    image[:, :, :8, :10] *= 0.03  # spreads less than a twentieth of the whole
    image[:, :, 8:, 10:] *= 0.2
    blocks = [image[:, :, :8, :10], image[:, :, 8:, 10:]]
    expected = [bool(shows(block[None], image).all()) for block in blocks]
    found = tellable_blocks(image, (1, 2, 2)).tolist()
    assert [found[0], found[3]] == expected == [False, True]


def test_slices_of_2d_configurations_are_recombined_too(textured: UnlabeledCases) -> None:
    pretext = slem(patch=(16, 20))
    assert pretext.grid == (2, 2)
    (sample,) = pretext.sampler(training=True).draw(sample_rng(0, 0), textured, "case")
    assert sample["image"].shape == (2, 16, 20)
    undone = unmix_cyclic(sample["image"].numpy(), (2, 2), sample["code"])
    np.testing.assert_array_equal(undone, sample["original"].numpy())
