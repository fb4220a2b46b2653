"""Splines as products with matrices, against nnU-Net's own resampling on every kind of grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape as nnunets
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

from nnunet_volf.preprocessing import resampling as module
from nnunet_volf.preprocessing.resampling import mask_resampler_of, resample_mask, resample_splines, resampler_of

ISOTROPIC = (1.0, 1.0, 1.0)
SHORT = st.tuples(*[st.integers(1, 20)] * 3)
LONG = st.permutations([1, 2, 150]).map(tuple)  # several blocks of rows
ANISOTROPIC = [(5.0, 1.0, 1.0), (0.9, 3.6, 1.0), (1.0, 0.8, 4.0), (4.0, 4.0, 1.0)]


def volume(shape: Sequence[int], seed: int = 0, mean: float = 0.0) -> np.ndarray:
    """Noise with an even corner, of values that a normalisation gives."""
    voxels = np.random.default_rng(seed).normal(mean, 1, size=shape)
    voxels[:, : shape[1] // 2, :, : shape[3] // 3] = mean - 1.7
    return voxels.astype(np.float32)


def assert_nnunets(data: np.ndarray, *arguments: Any, **options: Any) -> None:
    """Alike to a thousandth of what is asked for, and to the rounding of float32 where values are far from zero."""
    expected, found = nnunets(data.copy(), *arguments, **options), resample_splines(data, *arguments, **options)
    assert found.dtype == expected.dtype == np.float32
    rounding = np.finfo(np.float32).eps * np.abs(data).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * float(np.ptp(data)) + rounding)


@settings(max_examples=150, deadline=None)
@given(
    before=st.one_of(SHORT, LONG),
    after=st.one_of(SHORT, LONG),
    order=st.integers(0, 5),
    order_z=st.integers(0, 3),
    spacings=st.tuples(*[st.sampled_from([ISOTROPIC, *ANISOTROPIC])] * 2),
    separate=st.sampled_from([None, True, False]),
    seed=st.integers(0, 99),
)
@example((12, 12, 12), (24, 6, 12), 3, 0, (ISOTROPIC, ISOTROPIC), False, 0)
@example((12, 12, 12), (6, 12, 24), 3, 0, (ISOTROPIC, ISOTROPIC), False, 0)
@example((12, 12, 12), (12, 24, 12), 3, 0, (ISOTROPIC, ISOTROPIC), False, 0)
@example((9, 12, 12), (9, 10, 15), 3, 0, (ANISOTROPIC[0], ISOTROPIC), None, 0)
@example((12, 9, 12), (10, 18, 15), 3, 1, (ANISOTROPIC[1], ISOTROPIC), None, 0)
def test_voxels_are_nnunets_on_any_grid(
    before: tuple[int, ...],
    after: tuple[int, ...],
    order: int,
    order_z: int,
    spacings: Any,
    separate: bool | None,
    seed: int,
) -> None:
    options = {"order": order, "order_z": order_z, "force_separate_z": separate}
    assert_nnunets(volume((1, *before), seed), after, *spacings, **options)


def test_the_defaults_are_nnunets() -> None:
    assert_nnunets(volume((1, 8, 20, 20)), (13, 25, 22), ANISOTROPIC[0], ISOTROPIC)


@pytest.mark.parametrize("threshold", [2, 6])
def test_the_threshold_of_anisotropy_is_the_plans(threshold: float) -> None:
    data, options = volume((1, 8, 20, 20)), {"force_separate_z": None, "separate_z_anisotropy_threshold": threshold}
    assert_nnunets(data, (13, 25, 22), ANISOTROPIC[0], ISOTROPIC, **options)
    usual = resample_splines(data, (13, 25, 22), ANISOTROPIC[0], ISOTROPIC, force_separate_z=None)
    found = resample_splines(data, (13, 25, 22), ANISOTROPIC[0], ISOTROPIC, **options)
    assert np.array_equal(usual, found) == (threshold == 2)


@pytest.mark.parametrize("spacing", [ISOTROPIC, *ANISOTROPIC])
def test_channels_are_resampled_and_clipped_each_by_itself(spacing: Any) -> None:
    data = np.concatenate([volume((1, 12, 14, 10)), 50 + 9 * volume((1, 12, 14, 10), seed=1)])
    assert_nnunets(data, (17, 11, 13), spacing, ISOTROPIC, force_separate_z=None)


@pytest.mark.parametrize("after", [3, 7, 8, 9, 30])
@pytest.mark.parametrize("order_z", [0, 1, 2, 3])
def test_the_axis_that_is_treated_separately_may_get_shorter_and_longer(after: int, order_z: int) -> None:
    options = {"order": 3, "order_z": order_z, "force_separate_z": None}
    assert_nnunets(volume((1, 8, 12, 12)), (after, 17, 13), ANISOTROPIC[0], ISOTROPIC, **options)


@pytest.mark.parametrize("spacing", [ISOTROPIC, *ANISOTROPIC])
def test_any_order_in_memory_is_resampled_alike(spacing: Any) -> None:
    data = volume((1, 12, 30, 24)).transpose(0, 3, 1, 2)[:, 2:, 1:, 3:-1]
    assert not data.flags.c_contiguous
    assert_nnunets(data, (17, 11, 31), spacing, ISOTROPIC, force_separate_z=None)


def test_values_far_from_zero_are_right_to_their_last_bits() -> None:
    assert_nnunets(volume((1, 20, 24, 22), mean=30000), (26, 20, 27), ISOTROPIC, ISOTROPIC)


def test_an_even_background_stays_one_value() -> None:
    """Which single precision would not keep: compression and the search for tissue live on it."""
    data = volume((1, 60, 20, 20))
    data[:, :35] = -1.7
    resampled = resample_splines(data, (70, 23, 18), ISOTROPIC, ISOTROPIC)
    assert np.unique(resampled[:, :15]).tolist() == [np.float32(-1.7)]


def test_an_image_on_the_plans_grid_is_returned_as_it_is() -> None:
    data = volume((1, 8, 9, 10))
    assert resample_splines(data, (8, 9, 10), ISOTROPIC, ISOTROPIC) is data


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_voxels_that_are_no_numbers_spread_as_in_nnunet(bad: float, order: int) -> None:
    data = volume((1, 9, 9, 9))
    data[0, 1, 1, 1] = bad
    expected = nnunets(data.copy(), (3, 3, 12), ISOTROPIC, ISOTROPIC, order=order)
    found = resample_splines(data, (3, 3, 12), ISOTROPIC, ISOTROPIC, order=order)
    np.testing.assert_array_equal(found, expected)


# ------------------------------------------------------------------------------------------------------------ masks

LINEAR = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}


@settings(max_examples=100, deadline=None)
@given(
    before=SHORT,
    after=SHORT,
    spacing=st.sampled_from([ISOTROPIC, *ANISOTROPIC]),
    share=st.sampled_from([0.05, 0.5, 0.95]),
    seed=st.integers(0, 99),
)
def test_masks_are_nnunets_but_where_inside_and_outside_are_equal(
    before: tuple[int, ...], after: tuple[int, ...], spacing: Any, share: float, seed: int
) -> None:
    mask = np.where(np.random.default_rng(seed).random((1, *before)) < share, 0, -1).astype(np.int8)
    expected = nnunets(mask.copy(), after, spacing, spacing, **LINEAR)
    found = resample_mask(mask, after, spacing, spacing, force_separate_z=None)
    inside = nnunets((mask == 0).astype(np.float64), after, spacing, spacing, **{**LINEAR, "is_seg": False})
    decided = np.abs(inside - 0.5) > 1e-6
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found[decided], expected[decided])
    assert set(np.unique(found)) <= set(np.unique(mask))


@pytest.mark.parametrize("values", [(-1, 0), (0, -1)])
def test_where_inside_and_outside_are_equal_the_nearest_voxel_decides(values: tuple[int, int]) -> None:
    mask = np.array(values, np.int8).reshape(1, 2, 1, 1)
    found = resample_mask(mask, (3, 1, 1), ISOTROPIC, ISOTROPIC)  # the second lies half-way
    nearest = nnunets(mask, (3, 1, 1), ISOTROPIC, ISOTROPIC, is_seg=True, order=0)
    assert found.ravel().tolist() == nearest.ravel().tolist()
    assert found.ravel()[[0, 2]].tolist() == list(values)


def test_a_mask_on_the_plans_grid_is_returned_as_it_is() -> None:
    mask = np.zeros((1, 8, 9, 10), np.int8)
    assert resample_mask(mask, (8, 9, 10), ISOTROPIC, ISOTROPIC) is mask


# ------------------------------------------------------------------------------------- which functions are replaced

SPLINES = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def test_nnunets_splines_are_computed_by_ours_with_the_plans_arguments() -> None:
    resample = resampler_of(partial(nnunets, **SPLINES))
    assert (resample.func, resample.keywords) == (
        resample_splines,
        {"order": 3, "order_z": 0, "force_separate_z": None},
    )
    assert resampler_of(partial(nnunets)).func is resample_splines


def wrapped(*arguments: Any, **options: Any) -> Any:
    """A function of a user, which does something else."""
    return nnunets(*arguments, **options)


@pytest.mark.parametrize(
    "configured",
    [
        partial(nnunets, **{**SPLINES, "is_seg": True, "order": 1}),
        partial(nnunets, **{**SPLINES, "order": 6}),
        partial(nnunets, **{**SPLINES, "order_z": -1}),
        partial(nnunets, None, **SPLINES),
        partial(no_resampling_hack),
        partial(wrapped, **SPLINES),
        wrapped,
    ],
)
def test_any_other_function_is_called_as_it_is(configured: Any) -> None:
    assert resampler_of(configured) is configured


def test_nnunets_labels_are_resampled_by_ours_where_they_are_a_mask() -> None:
    resample = mask_resampler_of(partial(nnunets, **LINEAR))
    assert (resample.func, resample.keywords) == (resample_mask, {"force_separate_z": None})


@pytest.mark.parametrize(
    "configured",
    [
        partial(nnunets, **SPLINES),
        partial(nnunets, **{**LINEAR, "order": 0}),
        partial(nnunets, **{**LINEAR, "order_z": 1}),
        partial(nnunets, is_seg=True),
        partial(wrapped, **LINEAR),
        partial(no_resampling_hack),
    ],
)
def test_any_other_resampling_of_labels_is_called_as_it_is(configured: Any) -> None:
    assert mask_resampler_of(configured) is configured


def test_an_argument_that_is_not_known_here_leaves_nnunets_function_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def later_version(data: Any, *arguments: Any, sharpness: float = 1.0, **options: Any) -> Any:
        return nnunets(data * sharpness, *arguments, **options)

    monkeypatch.setattr(module, "resample_data_or_seg_to_shape", later_version)
    configured = partial(later_version, **SPLINES, sharpness=2.0)
    assert resampler_of(configured) is configured
    assert resampler_of(partial(later_version, **SPLINES)).func is resample_splines


def test_torch_keeps_to_one_thread() -> None:
    configured = partial(resample_torch_fornnunet, is_seg=False, force_separate_z=None)
    resample = resampler_of(configured)
    assert resample.func is resample_torch_fornnunet
    assert resample.keywords == {**configured.keywords, "num_threads": 1}


# ------------------------------------------------------------------------------------------------------ the matrices


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize(("before", "after"), [(400, 517), (517, 400), (3, 70), (70, 3)])
def test_what_a_matrix_leaves_out_is_nothing(order: int, before: int, after: int) -> None:
    row = np.random.default_rng(order).normal(1000, 1, before)
    expected = module.resize(row, (after,), order, mode="edge", anti_aliasing=False, clip=False)
    found = module._product(module._spline_matrix(before, after, order), row[:, None])[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_the_matrix_of_a_long_axis_is_narrow() -> None:
    kept = sum(weights.size for _, _, weights in module._spline_matrix(512, 512 + 64, 3))
    assert kept < 0.25 * 512 * (512 + 64)
