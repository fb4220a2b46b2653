"""VoCo's samples: what is cut out of a case, how it is shown, and what is asked for."""

from __future__ import annotations

import pickle
from math import prod
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pretexts import given_for

from nnunet_volf.augment import Look
from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.dataloading import SampleLoader
from nnunet_volf.pretext.voco.geometry import overlaps
from nnunet_volf.pretext.voco.pretext import VolumeContrast
from nnunet_volf.pretext.voco.sampler import CropSampler
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.voco.views import View, draw_view, planes_to_turn_in, show
from nnunet_volf.resizing import resize

SEEDS = st.integers(0, 2**32 - 1)
quick = hypothesis_settings(max_examples=25, deadline=None)


def cases_with(folder: Path, *images: np.ndarray) -> UnlabeledCases:
    for number, image in enumerate(images):
        blosc2.asarray(image.astype(np.float32), urlpath=str(folder / f"case_{number}.b2nd"))
    return UnlabeledCases(folder, [f"case_{number}" for number in range(len(images))])


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def sampler_for(
    training: bool = False,
    patch: tuple[int, ...] = (16, 16, 16),
    median: tuple[int, ...] = (32, 32, 32),
    **settings: Any,
) -> CropSampler:
    pretext = VolumeContrast(VoCoSettings.from_mapping(settings), given_for(patch, median_shape=median))
    return pretext.sampler(training=training)


def draw(sampler: CropSampler, cases: UnlabeledCases, seed: int = 0) -> dict[str, Any]:
    (sample,) = sampler.draw(np.random.default_rng(seed), cases, cases.identifiers[0])
    return sample


def test_a_sample_holds_bases_and_targets_of_one_region_of_the_case(tmp_path: Path) -> None:
    image = noise(2, 40, 36, 44)
    sampler = sampler_for()
    sample = draw(sampler, cases_with(tmp_path, image))
    region, volume = sampler.region, sample["region"].numpy()
    (start,) = np.argwhere(image[0].astype(np.float32) == volume[0, 0, 0, 0])
    box = tuple(slice(a, a + n) for a, n in zip(start, region.size, strict=True))
    np.testing.assert_array_equal(volume, image[(slice(None), *box)].astype(np.float32))

    assert sample["image"].dtype == torch.float32
    assert sample["image"].shape == (len(region.bases) + 4, 2, *region.crop)
    for crop, at in zip(sample["image"], [*region.bases, *sample["starts"]], strict=True):
        inside = tuple(slice(a, a + n) for a, n in zip(at, region.crop, strict=True))
        np.testing.assert_array_equal(crop.numpy(), volume[(slice(None), *inside)])
    torch.testing.assert_close(sample["target"][:-1], overlaps(region, sample["starts"]))
    assert (sample["target"][-1] == 1).all()
    assert sample["keys"] == ("case_0",)


@quick
@given(SEEDS)
def test_how_crops_are_shown_changes_neither_labels_nor_places(tmp_path_factory: Any, seed: int) -> None:
    folder = tmp_path_factory.mktemp("case")
    cases = cases_with(folder, noise(1, 34, 33, 36))
    plain = draw(sampler_for(), cases, seed)
    shown = draw(sampler_for(training=True, flip=1.0, rotate=1.0), cases, seed)
    assert torch.equal(plain["target"], shown["target"])
    assert plain["starts"] == shown["starts"]
    assert torch.equal(plain["region"], shown["region"])
    assert not any(torch.equal(a, b) for a, b in zip(plain["image"], shown["image"], strict=True))


def test_each_crop_is_shown_in_a_way_of_its_own(tmp_path: Path) -> None:
    cases = cases_with(tmp_path, noise(1, 40, 40, 40))
    plain = draw(sampler_for(), cases)["image"]
    flipped = draw(sampler_for(training=True, flip=0.5, rotate=0.0, intensity=False), cases)["image"]
    ways = {
        axes
        for a, b in zip(plain, flipped, strict=True)
        for axes in [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]
        if torch.equal(a.flip(axes), b)
    }
    assert len(ways) > 3


def test_in_validation_and_previews_crops_are_shown_as_they_are(tmp_path: Path) -> None:
    cases = cases_with(tmp_path, noise(1, 40, 40, 40))
    still = draw(sampler_for(training=True, flip=0.0, rotate=0.0, intensity=False), cases)
    assert torch.equal(draw(sampler_for(flip=1.0, rotate=1.0), cases)["image"], still["image"])


def test_a_volume_smaller_than_the_region_is_stretched_to_it(tmp_path: Path) -> None:
    image = noise(1, 9, 40, 40)
    sampler = sampler_for(grid=[2, 2, 2], crop=[8, 8, 8], crops="anywhere")
    volume = draw(sampler, cases_with(tmp_path, image))["region"]
    ((row, column),) = np.argwhere(image[0, 0].astype(np.float32) == volume[0, 0, 0, 0].numpy())
    cut = image[:, :, row : row + 16, column : column + 16].astype(np.float32)
    assert torch.equal(volume, resize(torch.from_numpy(cut), (16, 16, 16)))


def test_bases_in_air_do_not_count(tmp_path: Path) -> None:
    image = noise(1, 16, 32, 32)
    image[:, :, :, :16] = -1
    sampler = sampler_for(grid=[1, 2, 2], crop=[16, 16, 16])
    sample = draw(sampler, cases_with(tmp_path, image))
    assert sample["target"][-1].tolist() == [0, 1, 0, 1]
    assert (sample["target"][:-1, [0, 2]] == 0).all()
    kept = sample["target"][:-1].sum(1)
    starts = np.array(sample["starts"])
    assert kept.tolist() == [float(start[2] >= 2) for start in starts], "two of 16 voxels are more than 10 %"


def test_an_image_that_shows_nothing_makes_a_sample_in_which_nothing_counts(tmp_path: Path) -> None:
    sample = draw(sampler_for(training=True), cases_with(tmp_path, np.full((1, 34, 34, 34), 3.0)))
    assert not sample["target"].any()
    assert torch.isfinite(sample["image"]).all()


def test_2d_plans_make_2d_regions(tmp_path: Path) -> None:
    sampler = sampler_for(patch=(16, 16), median=(24, 24), training=True)
    sample = draw(sampler, cases_with(tmp_path, noise(1, 5, 30, 28)))
    assert sampler.region.grid == (3, 3)
    assert sample["image"].shape == (13, 1, 8, 8)
    assert sample["target"].shape == (5, 9)


def test_samplers_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    sampler, cases = sampler_for(training=True), cases_with(tmp_path, noise(1, 34, 34, 34))
    again = pickle.loads(pickle.dumps(sampler))
    assert torch.equal(draw(sampler, cases)["image"], draw(again, cases)["image"])


def test_a_loader_stacks_samples(tmp_path: Path) -> None:
    sampler = sampler_for()
    loader = SampleLoader(cases_with(tmp_path, noise(1, 34, 34, 34), noise(1, 40, 33, 35)), 2, sampler)
    batch = loader.generate_train_batch()
    bases = prod(sampler.region.grid)
    assert batch["data"].shape == (2, bases + 4, 1, 8, 8, 8)
    assert batch["target"].shape == (2, 5, bases)
    assert torch.equal(loader.fixed_sample(5, 1)["image"], loader.fixed_sample(5, 1)["image"])


# ------------------------------------------------------------------------------------------------- views


def test_crops_are_turned_only_where_a_turned_one_is_like_it() -> None:
    assert planes_to_turn_in((8, 8, 8), (1.0, 1.0, 1.0)) == ((0, 1), (0, 2), (1, 2))
    assert planes_to_turn_in((8, 8, 8), (3.0, 0.7995, 0.8)) == ((1, 2),)
    assert planes_to_turn_in((8, 16, 8), (1.0, 1.0, 1.0)) == ((0, 2),)
    assert planes_to_turn_in((8, 16, 12), (1.0, 1.0, 1.0)) == ()
    assert planes_to_turn_in((8, 8), (1.0, 1.0)) == ((0, 1),)


@quick
@given(SEEDS, st.integers(1, 3))
def test_a_turned_crop_holds_the_same_voxels(seed: int, quarters: int) -> None:
    crop = torch.from_numpy(noise(2, 4, 6, 6, seed=seed).astype(np.float32))
    turned = show(crop, View(Look(()), (1, 2), quarters)).numpy()
    expected = crop.numpy()
    for _ in range(quarters):  # a quarter takes what was at (i, j) to (n - 1 - j, i)
        expected = np.stack([np.stack([plane[:, ::-1].T for plane in channel]) for channel in expected])
    np.testing.assert_array_equal(turned, expected)


def test_turns_and_flips_are_drawn_as_often_as_set() -> None:
    settings = VoCoSettings.from_mapping({})
    rng = np.random.default_rng(0)
    views = [draw_view(rng, (1, 8, 8, 8), ((0, 1), (1, 2)), settings) for _ in range(3000)]
    turned = [view for view in views if view.plane is not None]
    assert len(turned) / 3000 == pytest.approx(0.2, abs=0.03)
    assert {view.plane for view in turned} == {(0, 1), (1, 2)}
    assert {view.quarters for view in turned} == {1, 2, 3}
    assert np.mean([len(view.look.flips) for view in views]) == pytest.approx(0.6, abs=0.06)
    assert not any(view.look.invert for view in views)


def test_nothing_is_turned_where_no_plane_allows_it() -> None:
    settings = VoCoSettings.from_mapping({"rotate": 1.0})
    rng = np.random.default_rng(0)
    assert all(draw_view(rng, (1, 4, 6, 8), (), settings).plane is None for _ in range(50))
