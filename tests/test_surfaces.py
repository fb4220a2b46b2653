"""NSD, HD95 and ASSD against a slow, literal oracle, and against what can be said without computing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_volf.benchmark.surfaces import compare_surfaces


def oracle(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, ...]:
    """Every voxel of one surface against every voxel of the other."""

    def surface(mask: np.ndarray) -> list[tuple[int, ...]]:
        def outside(voxel: tuple[int, ...]) -> bool:
            return any(not 0 <= i < n for i, n in zip(voxel, mask.shape, strict=True)) or not mask[voxel]

        found = []
        for voxel in itertools.product(*map(range, mask.shape)):
            steps = [
                tuple(i + s * (a == axis) for a, i in enumerate(voxel)) for axis in range(mask.ndim) for s in (-1, 1)
            ]
            if mask[voxel] and any(outside(neighbour) for neighbour in steps):
                found.append(voxel)
        return found

    def nearest(points: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> list[float]:
        def apart(p: tuple[int, ...], o: tuple[int, ...]) -> float:
            return math.sqrt(sum(((a - b) * s) ** 2 for a, b, s in zip(p, o, spacing, strict=True)))

        return [min(apart(point, other) for other in others) for point in points]

    first, second = surface(truth), surface(prediction)
    there, back = nearest(first, second), nearest(second, first)
    within = sum(d <= tolerance for d in there + back) / len(there + back)
    return within, max(np.percentile(there, 95), np.percentile(back, 95)), sum(there + back) / len(there + back)


masks = arrays(np.bool_, (5, 4, 6), elements=st.booleans())


@settings(max_examples=60, deadline=None)
@given(masks, masks, st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3), st.sampled_from([0.4, 1.0, 2.6]))
def test_the_measures_are_those_of_all_pairs_of_surface_voxels(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> None:
    if not truth.any() or not prediction.any():
        return
    found = compare_surfaces(truth, prediction, spacing, tolerance)
    assert found is not None
    assert (found.nsd, found.hd95, found.assd) == pytest.approx(oracle(truth, prediction, spacing, tolerance))


@settings(max_examples=30, deadline=None)
@given(masks, masks)
def test_truth_and_prediction_may_change_places(truth: np.ndarray, prediction: np.ndarray) -> None:
    first, second = (compare_surfaces(*pair, (1, 1, 2), 1) for pair in ((truth, prediction), (prediction, truth)))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert (first.nsd, first.hd95, first.assd) == pytest.approx((second.nsd, second.hd95, second.assd))


def test_a_cube_moved_by_two_voxels_is_as_far_as_the_spacing_says() -> None:
    truth, moved = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    truth[5:10, 5:10, 5:10] = True
    moved[5:10, 5:10, 7:12] = True
    found = compare_surfaces(truth, moved, (1, 1, 3.0), 1.0)
    assert found is not None
    assert found.hd95 == 6.0
    same = compare_surfaces(truth, truth, (1, 1, 3.0), 1.0)
    assert same is not None
    assert (same.nsd, same.hd95, same.assd) == (1, 0, 0)


def test_what_one_of_them_misses_altogether_counts_with_the_diagonal_of_the_image() -> None:
    truth, nothing = np.zeros((3, 4), bool), np.zeros((3, 4), bool)
    truth[1, 1] = True
    for pair in ((truth, nothing), (nothing, truth)):
        found = compare_surfaces(*pair, (1.0, 1.0), 2.0)
        assert found is not None
        assert (found.nsd, found.hd95, found.assd) == (0, 5, 5)
    assert compare_surfaces(nothing, nothing, (1.0, 1.0), 2.0) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI 1.6 warns of itself
def test_the_numbers_are_those_of_monai() -> None:
    metrics = pytest.importorskip("monai.metrics")
    import torch

    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"))
    for _ in range(5):
        blobs = []
        for _ in range(2):
            middle, radius = rng.uniform(9, 14, size=(3, 1, 1, 1)), rng.uniform(4, 8)
            blobs.append(((grid - middle) ** 2).sum(0) < radius**2)
        spacing = tuple(rng.uniform(0.5, 3, size=3))
        truth, prediction = (torch.from_numpy(blob)[None, None].float() for blob in blobs)
        found = compare_surfaces(*blobs, spacing, 1.5)
        assert found is not None
        theirs = (
            metrics.compute_surface_dice(prediction, truth, [1.5], include_background=True, spacing=spacing),
            metrics.compute_hausdorff_distance(
                prediction, truth, include_background=True, percentile=95, spacing=spacing
            ),
            metrics.compute_average_surface_distance(
                prediction, truth, include_background=True, symmetric=True, spacing=spacing
            ),
        )
        assert (found.nsd, found.hd95, found.assd) == pytest.approx([value.item() for value in theirs], rel=1e-5)
