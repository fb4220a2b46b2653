"""VoCo's position labels against voxels counted one by one, and which grid suits a plan."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pretexts import given_for

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.voco.geometry import Region, draw_starts, overlaps
from nnunet_volf.pretext.voco.labels import LEAST_SEEN, pairs, position_labels, split_labels
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.voco.sizes import choose_region

SEEDS = st.integers(0, 2**32 - 1)
quick = hypothesis_settings(max_examples=40, deadline=None)


def regions(longest: int) -> st.SearchStrategy[Region]:
    axes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, longest)), min_size=2, max_size=3)
    return axes.map(lambda pairs: Region(tuple(g for g, _ in pairs), tuple(c for _, c in pairs)))


def count_voxels(region: Region, starts: list[tuple[int, ...]]) -> np.ndarray:
    """Look up, for every voxel of every target, the cell of the grid that it lies in."""
    cells = list(product(*(range(g) for g in region.grid)))
    counts = np.zeros((len(starts), len(cells)))
    for row, start in enumerate(starts):
        for voxel in product(*(range(a, a + c) for a, c in zip(start, region.crop, strict=True))):
            cell = tuple(v // c for v, c in zip(voxel, region.crop, strict=True))
            counts[row, cells.index(cell)] += 1
    return counts / prod(region.crop)


@quick
@given(regions(4), SEEDS)
def test_overlaps_are_those_that_counting_voxels_gives(region: Region, seed: int) -> None:
    starts = draw_starts(np.random.default_rng(seed), region, 3)
    np.testing.assert_allclose(overlaps(region, starts).numpy(), count_voxels(region, starts), atol=1e-6)


def test_overlaps_are_those_that_random_points_find() -> None:
    region = Region((1, 3, 4), (16, 24, 20))
    rng = np.random.default_rng(3)
    starts = draw_starts(rng, region, 5)
    points = rng.uniform(size=(100_000, 3)) * region.crop
    cells = list(product(*(range(g) for g in region.grid)))
    for start, row in zip(starts, overlaps(region, starts).tolist(), strict=True):
        at = np.floor((points + start) / region.crop).astype(int)
        found = [(at == cell).all(1).mean() for cell in cells]
        assert np.abs(np.array(found) - row).max() < 5 * 0.5 / np.sqrt(len(points))


@quick
@given(regions(40), SEEDS)
def test_a_target_lies_inside_is_shared_out_whole_and_touches_two_bases_an_axis_at_most(
    region: Region, seed: int
) -> None:
    starts = draw_starts(np.random.default_rng(seed), region, 6)
    for start in starts:
        assert all(0 <= a <= a + c <= s for a, c, s in zip(start, region.crop, region.size, strict=True))
    shares = overlaps(region, starts)
    assert shares.shape == (6, prod(region.grid))
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert ((shares > 0).sum(1) <= 2 ** len(region.grid)).all()
    assert ((shares > 0).sum(1) <= 2 ** sum(g > 1 for g in region.grid)).all()


@quick
@given(regions(9))
def test_a_target_on_a_base_has_one_label(region: Region) -> None:
    assert torch.equal(overlaps(region, region.bases), torch.eye(prod(region.grid)))


def test_bases_fill_the_region_in_the_order_of_the_array() -> None:
    region = Region((2, 1, 3), (2, 3, 4))
    volume = torch.arange(prod(region.size)).reshape(1, *region.size)
    cut = torch.stack([region.cut(volume, start)[0] for start in region.bases])
    assert region.bases[1] == (0, 0, 4)
    assert region.bases[3] == (2, 0, 0)
    assert sorted(cut.flatten().tolist()) == list(range(prod(region.size)))
    assert torch.equal(cut[5], volume[0, 2:4, 0:3, 8:12])


def test_targets_start_anywhere_evenly() -> None:
    region = Region((1, 2, 3), (4, 4, 4))
    starts = np.array(draw_starts(np.random.default_rng(0), region, 9000))
    assert (starts[:, 0] == 0).all()
    for axis, places in ((1, 5), (2, 9)):
        counts = np.bincount(starts[:, axis], minlength=places)
        assert len(counts) == places
        assert np.abs(counts - 9000 / places).max() < 5 * np.sqrt(9000 / places)


# --------------------------------------------------------------------------------------------- what counts


def labels_of(shares: list[list[float]], bases: list[bool], targets: list[bool]) -> torch.Tensor:
    return position_labels(torch.tensor(shares), torch.tensor(bases), torch.tensor(targets))


def test_where_all_bases_count_labels_are_the_overlaps() -> None:
    labels = labels_of([[0.3, 0.7, 0], [0, 0, 1]], [True] * 3, [True] * 2)
    torch.testing.assert_close(labels, torch.tensor([[0.3, 0.7, 0], [0, 0, 1], [1, 1, 1]]))


def test_bases_that_show_nothing_are_left_out_and_the_others_sum_to_one() -> None:
    labels = labels_of([[0.25, 0.25, 0.5], [0.75, 0.25, 0]], [True, True, False], [True] * 2)
    torch.testing.assert_close(labels, torch.tensor([[0.5, 0.5, 0], [0.75, 0.25, 0], [1, 1, 0]]))


@pytest.mark.parametrize(("seen", "counts"), [(LEAST_SEEN / 2, False), (LEAST_SEEN * 1.01, True)])
def test_a_target_that_lies_mostly_in_bases_that_show_nothing_does_not_count(seen: float, counts: bool) -> None:
    labels = labels_of([[seen, 1 - seen]], [True, False], [True])
    torch.testing.assert_close(labels, torch.tensor([[float(counts), 0], [1, 0]]))


def test_a_target_that_shows_nothing_does_not_count() -> None:
    shares, targets, bases = split_labels(labels_of([[0.5, 0.5], [1, 0]], [True, True], [False, True])[None])
    assert targets.tolist() == [[False, True]]
    assert bases.tolist() == [[True, True]]
    assert shares[0, 0].tolist() == [0, 0]
    assert pairs(targets, bases).tolist() == [[[False, False], [True, True]]]


# --------------------------------------------------------------------------------------- grids for plans


def plan(
    patch: tuple[int, ...] = (128, 128, 128),
    strides: tuple[int, ...] = (32, 32, 32),
    median: tuple[int, ...] = (300, 400, 400),
) -> Given:
    return given_for(patch, strides=strides, median_shape=median)


def chosen(given: Given, **settings: Any) -> Region:
    return choose_region(VoCoSettings.from_mapping(settings), given)


@pytest.mark.parametrize(
    ("given", "region"),
    [
        (plan(), Region((1, 3, 3), (64, 64, 64))),  # a large CT: the author's latest grid and crop
        (plan(median=(500, 400, 400)), Region((3, 1, 3), (64, 64, 64))),
        (plan((160, 160, 128), median=(150, 180, 140)), Region((2, 2, 2), (64, 64, 64))),
        (plan((40, 56, 40), (8, 8, 8), (36, 50, 35)), Region((2, 2, 2), (16, 24, 16))),  # the hippocampus
        (plan((20, 320, 256), (4, 64, 64), (19, 320, 260)), Region((2, 2, 2), (8, 128, 128))),
        (plan((8, 64, 48), (2, 4, 4), (8, 34, 28)), Region((2, 2, 2), (4, 16, 12))),
        (plan((512, 512), (128, 128), (512, 512)), Region((2, 2), (256, 256))),
        (plan((256, 256), (64, 64), (512, 512)), Region((3, 3), (128, 128))),
    ],
)  # fmt: skip
def test_grid_and_crop_suit_the_plan(given: Given, region: Region) -> None:
    assert chosen(given) == region


sides = st.tuples(st.integers(0, 5), st.integers(4, 9), st.integers(4, 700))


@quick
@given(st.lists(sides, min_size=2, max_size=3))
def test_what_is_chosen_fits_image_patch_and_network(axes: list[tuple[int, int, int]]) -> None:
    strides = tuple(2**halvings for halvings, _, _ in axes)
    patch = tuple(stride * steps for stride, (_, steps, _) in zip(strides, axes, strict=True))
    median = tuple(max(voxels, 4 * stride) for stride, (_, _, voxels) in zip(strides, axes, strict=True))
    region = chosen(plan(patch, strides, median))
    assert 4 <= prod(region.grid) <= 16
    assert all(size <= side for size, side in zip(region.size, median, strict=True))
    assert all(2 * crop <= side for crop, side in zip(region.crop, patch, strict=True))
    assert all(crop % stride == 0 for crop, stride in zip(region.crop, strides, strict=True))
    assert prod(region.crop) // prod(strides) > 1


def test_what_is_set_is_taken_and_a_grid_that_is_set_makes_crops_that_fit() -> None:
    assert chosen(plan(), grid=[1, 4, 4]) == Region((1, 4, 4), (64, 64, 64))
    assert chosen(plan(), grid=[1, 4, 4], crop=[32, 96, 96]) == Region((1, 4, 4), (32, 96, 96))
    assert chosen(plan((40, 56, 40), (8, 8, 8), (36, 50, 35)), grid=[2, 3, 2]) == Region((2, 3, 2), (16, 16, 16))
    assert chosen(plan(), preset="reference-160k") == Region((1, 3, 3), (64, 64, 64))


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (plan(), {"crop": [64, 64, 48]}, r"64 x 64 x 48 voxels do not divide .* 32 x 32 x 32\. Set crop to multiples"),
        (plan(), {"crop": [32, 32, 32]}, r"32 x 32 x 32, leave a single voxel, .* Double crop along one axis"),
        (plan(), {"grid": [1, 1, 3]}, r"A grid of 1 x 1 x 3 is 3 base crops, and VoCo needs 4 or more"),
        (
            plan(median=(130, 60, 40)),
            {},
            r"median image of Dataset901_Phantom has 130 x 60 x 40 voxels and room for few",
        ),
        (plan(), {"grid": [3, 3]}, r"grid is \[3, 3\], and Dataset901_Phantom is planned in 3D: give 3 numbers"),
        (plan((64, 64), (8, 8), (99, 99)), {"crop": [8, 8, 8]}, r"planned in 2D: give 2 numbers, or set crop=null"),
        (plan((64, 64), (8, 8), (99, 99)), {"preset": "reference-10k"}, r"planned in 2D: give 2 numbers"),
    ],
)
def test_what_cannot_be_trained_is_refused(given: Given, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        chosen(given, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": [3, 0, 3]}, r"grid is \(3, 0, 3\); it must hold one whole number of base crops for each axis"),
        ({"crop": 64}, r"crop is 64; it must hold one whole number of voxels for each axis"),
        ({"crop": [64.0, 64, 64]}, r"it must hold one whole number of voxels"),
        ({"variant": "v3"}, r"variant is 'v3'\. "),
        ({"targets": 0}, r"targets is 0; it must be a whole number, between 1 and 64"),
        ({"momentum": 1.5}, r"momentum is 1\.5; it must be a number between 0 and 1"),
        ({"variant": "v0", "between_volumes": True}, r"between_volumes needs a teacher, and variant v0 has none"),
        ({"rotates": 0.5}, r"Did you mean 'rotate'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        VoCoSettings.from_mapping(settings)


def test_the_learning_rate_goes_with_the_optimizer() -> None:
    assert VoCoSettings.from_mapping({}).peak_learning_rate == 1e-4
    assert VoCoSettings.from_mapping({"optimizer": "sgd"}).peak_learning_rate == 1e-2
    assert VoCoSettings.from_mapping({"learning_rate": 3e-4}).peak_learning_rate == 3e-4
