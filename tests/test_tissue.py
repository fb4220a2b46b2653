"""The body mask: on made-up scans of which the truth is known, and on data where there is nothing to tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_volf.preprocessing.tissue import GRID, _filled, grid_stride, tissue_locations, tissue_mask, tissue_values

quick = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
SHAPE = (40, 80, 90)
Z, Y, X = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
BODY = X**2 + Y**2 + Z**2 < 0.7
LUNGS = (np.abs(X) - 0.35) ** 2 + Y**2 + Z**2 / 2 < 0.05
BRAIN = X**2 + Y**2 + Z**2 < 0.5


def noise(scale: float, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, scale, SHAPE)


def ct() -> NDArray[np.int16]:
    voxels = np.where(BODY, 40.0, -1000.0)
    voxels[LUNGS] = -850
    return (voxels + noise(15)).astype(np.int16)


def mri() -> NDArray[np.float64]:
    """Four tissues under a bias field, and the noise of magnitude images."""
    radius = X**2 + Y**2 + Z**2
    signal = np.select([radius < 0.3, radius < 0.5, radius < 0.6, radius < 0.7], [500.0, 300.0, 150.0, 800.0], 0.0)
    return np.abs(signal * np.exp(X / 2) + noise(20) + 1j * noise(20, 1))


def agreement(voxels: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Dice of the mask and the truth at the points of the grid."""
    mask, stride = tissue_mask(voxels)
    truth = truth[tuple(slice(None, None, s) for s in stride)]
    assert mask.shape == truth.shape
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


# ------------------------------------------------------------------------------------------------- the mask


def test_the_body_in_a_ct_is_found_with_its_lungs() -> None:
    assert agreement(ct(), BODY) > 0.99


def test_padding_around_the_field_of_view_of_a_ct_is_air() -> None:
    voxels = ct()
    voxels[X**2 + Y**2 > 1] = -3024
    assert agreement(voxels, BODY) > 0.99


def test_a_ct_stored_without_negative_numbers_is_a_ct() -> None:
    assert agreement((ct() + 1024).clip(0).astype(np.uint16), BODY) > 0.99


def test_metal_does_not_move_the_threshold() -> None:
    voxels = ct()
    voxels[18:22, 40:42, 44:46] = 30_000
    assert agreement(voxels, BODY) > 0.99


def test_a_table_apart_from_the_body_is_kept_and_a_cable_is_not() -> None:
    voxels, cable, table = ct(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    table[:, 76:78, 20:70] = True
    cable[4:6, 4:6, 4:40] = True
    voxels[table | cable] = 100
    mask, stride = tissue_mask(voxels)
    on_grid = tuple(slice(None, None, s) for s in stride)
    assert mask[table[on_grid]].all()
    assert not mask[cable[on_grid]].any()


def test_the_head_in_an_mri_is_found_with_its_dark_parts() -> None:
    assert agreement(mri(), BODY) > 0.98


def test_a_bright_scalp_does_not_hide_a_head_that_is_dark_beside_it() -> None:
    """As in contrast-enhanced T1 scans: the first split of the values lies between the scalp and all the rest."""
    radius = X**2 + Y**2 + Z**2
    signal = np.select([radius < 0.85, radius < 1], [300.0, 1050.0], 0.0)
    voxels = np.abs(signal * np.exp(X / 3) + noise(12) + 1j * noise(12, 1))
    assert agreement(voxels, radius < 1) > 0.97
    assert tissue_mask(voxels)[0].mean() < 0.6


def test_dark_tissue_at_the_surface_counts() -> None:
    voxels = np.select([BRAIN, BODY], [800.0, 250.0], 0.0)  # nearer to air than to the bright class
    assert agreement(np.abs(voxels + noise(20)), BODY) > 0.98


def test_strong_noise_in_air_is_no_tissue() -> None:
    mask, stride = tissue_mask(np.where(BODY, 100.0, 0.0) + noise(17))
    outside = ~BODY[tuple(slice(None, None, s) for s in stride)]
    assert mask[outside].mean() < 0.001


@pytest.mark.parametrize("most", [60, 255])
def test_a_coarsely_stored_mri_is_an_mri(most: int) -> None:
    voxels = mri()
    assert agreement((voxels / voxels.max() * most).astype(np.uint8), BODY) > 0.98


def test_a_stripped_brain_is_found() -> None:
    assert agreement(np.where(BRAIN, mri(), 0), BRAIN) > 0.99


def test_normalised_images_with_negative_values_are_looked_at_as_the_others() -> None:
    stripped = np.where(BRAIN, mri(), 0)
    assert agreement((stripped - stripped.mean()) / stripped.std(), BRAIN) > 0.99
    assert agreement((ct().clip(-200, 300) - 50.0) / 100, BODY) > 0.99


def test_a_background_set_to_zero_after_normalisation_is_no_tissue() -> None:
    """nnU-Net does so to stripped brains: tissue is then on both sides of the background."""
    voxels = np.zeros(SHAPE)
    voxels[BRAIN] = (mri()[BRAIN] - mri()[BRAIN].mean()) / mri()[BRAIN].std()
    assert agreement(voxels, BRAIN) > 0.99


@pytest.mark.parametrize(
    "voxels",
    [
        noise(1),
        np.random.default_rng(0).uniform(0, 1, SHAPE),
        np.random.default_rng(0).exponential(1, SHAPE),
        ndimage.gaussian_filter(noise(1), 4),
        mri()[16:24, 30:50, 35:55],
        np.zeros(SHAPE),
        np.where(X**2 + Y**2 + Z**2 < 0.05, 100.0, 0.0) + noise(1),
    ],
    ids=["normal", "uniform", "exponential", "texture", "cropped", "constant", "less than a hundredth"],
)
def test_where_nothing_can_be_told_apart_all_is_tissue(voxels: NDArray[Any]) -> None:
    mask, _ = tissue_mask(voxels)
    assert mask.all()


def test_infinite_voxels_do_not_hide_the_body() -> None:
    voxels = ct().astype(np.float32)
    voxels[0, 0, 0], voxels[2, 2, 2] = np.nan, np.inf
    assert agreement(voxels, BODY) > 0.99


@pytest.mark.parametrize(
    ("shape", "stride"),
    [((512, 512, 200), (8, 8, 4)), ((64, 65, 1), (1, 2, 1)), ((20, 128, 129), (1, 2, 3))],
)
def test_the_grid_has_at_most_64_points_an_axis(shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    assert grid_stride(shape) == stride
    assert all(len(range(0, n, s)) <= GRID for n, s in zip(shape, stride, strict=True))


@given(SEEDS)
@quick
def test_holes_are_filled_slice_by_slice_along_each_axis(seed: int) -> None:
    mask = np.random.default_rng(seed).random((5, 6, 7)) < 0.6
    expected = mask.copy()
    for axis in range(3):
        for index in range(mask.shape[axis]):
            here = (slice(None),) * axis + (index,)
            expected[here] |= ndimage.binary_fill_holes(mask[here])
    np.testing.assert_array_equal(_filled(mask), expected)


# -------------------------------------------------------------------------------------------- locations


def test_locations_are_distinct_voxels_of_the_cells_of_the_mask() -> None:
    data = ct().astype(np.float32)[None]
    locations = tissue_locations(data, seed=1, most=3000)
    mask, stride = tissue_mask(data[0])
    assert locations.dtype == np.uint16
    assert locations.shape[1] == 3
    assert 2900 < len(locations) <= 3000  # but for those drawn twice
    assert len({tuple(place) for place in locations.tolist()}) == len(locations)
    for place in locations.tolist():
        assert all(0 <= p < n for p, n in zip(place, SHAPE, strict=True))
        assert mask[tuple(p // s for p, s in zip(place, stride, strict=True))]


def test_locations_are_spread_over_the_body_and_over_the_cells() -> None:
    data = ct().astype(np.float32)[None]
    locations = tissue_locations(data, seed=1, most=5000).astype(int)
    assert BODY[tuple(locations.T)].mean() > 0.95
    _, stride = tissue_mask(data[0])
    assert stride == (1, 2, 2)
    for axis in (1, 2):
        np.testing.assert_allclose(np.bincount(locations[:, axis] % 2) / len(locations), 0.5, atol=0.03)
    np.testing.assert_allclose(locations.mean(axis=0), np.argwhere(BODY).mean(axis=0), atol=1)
    np.testing.assert_allclose(locations.std(axis=0), np.argwhere(BODY).std(axis=0), rtol=0.05)


def test_locations_depend_on_the_seed_alone() -> None:
    data = ct().astype(np.float32)[None]
    first, again, other = (tissue_locations(data, seed, 500) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_tissue_of_any_channel_counts() -> None:
    left, right = (np.where(side & BODY, 100.0, 0.0) for side in (X < -0.2, X > 0.2))
    locations = tissue_locations(np.stack([left, right]), seed=0, most=4000)
    inside = X[tuple(locations.T.astype(int))]
    assert (inside < -0.2).mean() > 0.4
    assert (inside > 0.2).mean() > 0.4


def test_a_channel_without_any_contrast_does_not_make_everything_tissue() -> None:
    data = np.stack([noise(1), ct().astype(float)])
    assert BODY[tuple(tissue_locations(data, seed=0, most=2000).T.astype(int))].mean() > 0.95


@given(
    SEEDS,
    st.tuples(st.integers(1, 150), st.integers(1, 30), st.integers(1, 70)),
    st.integers(1, 500),
    st.sampled_from(["noise", "constant", "ball"]),
)
@quick
def test_locations_are_inside_any_shape(seed: int, shape: tuple[int, int, int], most: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    voxels = {"noise": rng.normal(size=shape), "constant": np.full(shape, 3.0), "ball": np.zeros(shape)}[kind]
    if kind == "ball":
        voxels[tuple(slice(n // 4, 3 * n // 4 + 1) for n in shape)] = 5
    locations = tissue_locations(voxels[None].astype(np.float32), seed, most)
    assert 1 <= len(locations) <= most
    assert (locations < shape).all()


def test_locations_reach_the_last_voxel_and_not_beyond() -> None:
    """At 65 voxels and a stride of 2, the last cell is one voxel wide."""
    locations = tissue_locations(np.ones((1, 65, 5, 5), np.float32), seed=0, most=1500)
    assert locations.max(axis=0).tolist() == [64, 4, 4]


def test_a_volume_too_long_for_its_locations_is_told() -> None:
    with pytest.raises(ValueError, match="at most 65536"):
        tissue_locations(np.zeros((1, 2, 2, 65537), np.int8), seed=0)


# ----------------------------------------------------------------------------------------------- values


def test_values_are_those_of_tissue_and_of_no_air() -> None:
    voxels = ct()
    values = tissue_values(voxels, seed=0, most=5000)
    truth = voxels[BODY]
    assert values.dtype == np.float32
    assert len(values) == 5000
    assert values.min() >= truth.min()
    assert np.median(values) == pytest.approx(np.median(truth), abs=1)
    assert values.std() == pytest.approx(truth.std(), rel=0.1)
    np.testing.assert_array_equal(values, tissue_values(voxels, seed=0, most=5000))
    assert not np.array_equal(values, tissue_values(voxels, seed=1, most=5000))


def test_few_values_are_all_of_them() -> None:
    voxels = ct()
    mask, stride = tissue_mask(voxels)
    expected = voxels[tuple(slice(None, None, s) for s in stride)][mask]
    np.testing.assert_array_equal(tissue_values(voxels, seed=0, most=10**6), expected)


def test_voxels_that_float32_cannot_hold_do_not_hide_the_body() -> None:
    voxels = ct().astype(np.float64)
    voxels[2, 2, 2] = 1e300
    assert agreement(voxels, BODY) > 0.99
