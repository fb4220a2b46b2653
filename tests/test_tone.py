"""The map of a channel's intensities: contrast, gamma, inversion, and mean and spread as they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nnunet_volf import tone as tone_module
from nnunet_volf.tone import SAMPLED_VOXELS, Tone, apply_tone, measure_tones

SEEDS = st.integers(0, 2**32 - 1)
ROUNDING = 1e-6  # equal voxels may come out apart by a bit: a vector unit does not round as a scalar one does
quick = hypothesis_settings(max_examples=40, deadline=None)


def image(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def tone_of(values: torch.Tensor, low: float, high: float, gamma: float, invert: bool) -> Tone | None:
    return measure_tones(values[None], (low,), (high,), (gamma,), invert)[0]


def contrast_map(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """The levels, as they are before gamma."""
    tone = tone_of(values, low, high, 1.0, False)
    assert tone is not None
    levels = values.clone()
    apply_tone(levels, Tone(tone.start, tone.segments, 1.0))
    return levels


def jitter_intensity(values: torch.Tensor, low: float, high: float, gamma: float, invert: bool) -> torch.Tensor:
    tone = tone_of(values, low, high, gamma, invert)
    changed = values.clone()
    if tone is not None:
        apply_tone(changed, tone)
    return changed


# ------------------------------------------------------------------------------------ the contrast map


@quick
@given(
    st.one_of(st.tuples(*[st.integers(12, 20)] * 2), st.tuples(*[st.integers(5, 8)] * 3)),
    SEEDS,
    st.floats(0.1, 2.0),
    st.floats(98.0, 99.9),
    st.floats(-1e3, 1e3),
    st.floats(1e-2, 1e3),
)
def test_the_contrast_map_equals_the_published_one(
    shape: tuple[int, ...], seed: int, low: float, high: float, shift: float, scale: float
) -> None:
    values = image(seed, *shape) * scale + shift
    mapped = contrast_map(values, low, high).numpy()
    expected = reference.contrast_map(values.numpy().astype(np.float64), low, high)
    rounding = 5e-6 * float(values.abs().max() / values.std())  # of single precision, far from zero
    np.testing.assert_allclose(mapped, expected, atol=1e-4 + rounding)


def test_the_percentiles_of_a_large_image_are_close_to_the_exact_ones() -> None:
    values = image(1, 80, 80, 80)  # eight times more voxels than are sorted
    knots = np.array([values.min(), *np.percentile(values, (1.0, 99.0)), values.max()])
    exact = np.interp(values.numpy(), knots, [0, 0.1, 0.9, 1])
    np.testing.assert_allclose(contrast_map(values, 1.0, 99.0).numpy(), exact, atol=0.02)


def half_air(seed: int) -> torch.Tensor:
    values = image(seed, 8, 8, 8).abs()
    values[:5] = -1.0
    return values


def two_valued(seed: int) -> torch.Tensor:
    return (image(seed, 8, 8, 8) > 0).float() * 3 - 1


def nearly_all_air(seed: int) -> torch.Tensor:
    values = torch.full((8, 8, 8), -1.0)
    values[0, 0, :3] = image(seed, 3)
    return values


def whole_numbers(seed: int) -> torch.Tensor:
    return image(seed, 8, 8, 8).mul(3).round()


def one_bright_voxel(seed: int) -> torch.Tensor:
    values = torch.zeros(8, 8, 8)
    values[seed % 8, 0, 0] = 1e6
    return values


AWKWARD = [half_air, two_valued, nearly_all_air, whole_numbers, one_bright_voxel]
awkward = pytest.mark.parametrize("kind", AWKWARD, ids=lambda kind: kind.__name__)


@awkward
@pytest.mark.parametrize("seed", range(3))
def test_an_awkward_image_is_mapped_onto_zero_to_one(kind: Any, seed: int) -> None:
    mapped = contrast_map(kind(seed), 1.0, 99.0)
    assert torch.isfinite(mapped).all()
    assert mapped.min() == 0
    assert mapped.max() == pytest.approx(1)


@awkward
def test_an_awkward_image_keeps_its_order_and_its_values_apart(kind: Any) -> None:
    values = kind(0).flatten()
    mapped = contrast_map(values, 1.0, 99.0)[values.argsort()]
    assert (mapped.diff() >= -ROUNDING).all()
    assert len(mapped.unique()) >= len(values.unique())


def test_air_is_mapped_to_zero_where_it_fills_more_than_the_low_percentile() -> None:
    values = half_air(0)
    assert (contrast_map(values, 1.0, 99.0)[values == -1] == 0).all()


def test_a_constant_image_has_no_map() -> None:
    assert tone_of(torch.full((4, 4, 4), 7.3), 1.0, 99.0, 1.2, False) is None


# ---------------------------------------------------------------------------------------------- jitter


@quick
@given(
    st.one_of(st.tuples(*[st.integers(12, 16)] * 2), st.tuples(*[st.integers(5, 7)] * 3)),
    SEEDS,
    st.floats(0.1, 2.0),
    st.floats(98.0, 99.9),
    st.floats(0.7, 1.5),
    st.booleans(),
)
def test_the_jitter_is_the_published_one_moved_back_to_mean_and_spread(
    shape: tuple[int, ...], seed: int, low: float, high: float, gamma: float, invert: bool
) -> None:
    values = image(seed, *shape) * 2 + 1
    found = jitter_intensity(values, low, high, gamma, invert).numpy()
    expected = reference.jitter(values.numpy().astype(np.float64), low, high, gamma, invert)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@awkward
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_mean_and_spread_come_back(kind: Any, invert: bool, shift: float) -> None:
    values = kind(1) * 50 + shift
    changed = jitter_intensity(values, 0.7, 99.2, 1.4, invert)
    assert float(changed.mean()) == pytest.approx(float(values.mean()), rel=1e-3, abs=1e-3 * float(values.std()))
    assert float(changed.std()) == pytest.approx(float(values.std()), rel=1e-3)


@awkward
def test_an_awkward_image_stays_finite_and_keeps_its_contrast(kind: Any) -> None:
    values = kind(2)
    changed = jitter_intensity(values, 0.1, 99.9, 1.5, True)
    assert torch.isfinite(changed).all()
    assert len(changed.unique()) >= len(values.unique())


@pytest.mark.parametrize("value", [0.0, 0.1, -1.0, 1234.5678, 1e-12])
@pytest.mark.parametrize("invert", [False, True])
def test_a_constant_image_is_returned_as_it_is(value: float, invert: bool) -> None:
    constant = torch.full((7, 9, 11), value)
    assert torch.equal(jitter_intensity(constant, 1.0, 99.0, 1.2, invert), constant)


def test_a_constant_image_that_was_rounded_is_not_taken_for_one_with_contrast() -> None:
    values = torch.full((6, 6, 6), -1.0)
    values[::2] = float(np.nextafter(np.float32(-1), np.float32(0)))
    assert torch.equal(jitter_intensity(values, 1.0, 99.0, 0.7, True), values)


@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
def test_without_inversion_brighter_stays_brighter(gamma: float) -> None:
    values = image(3, 500).sort().values
    assert (jitter_intensity(values, 1.0, 99.0, gamma, False).diff() >= -ROUNDING).all()


@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
def test_with_inversion_brighter_becomes_darker(gamma: float) -> None:
    values = image(3, 500).sort().values
    assert (jitter_intensity(values, 1.0, 99.0, gamma, True).diff() <= ROUNDING).all()


@pytest.mark.parametrize("tiny", [1e-6, 1e-20, 1e-38])
def test_a_tiny_contrast_does_not_become_nan(tiny: float) -> None:
    values = torch.zeros(6, 6, 6)
    values[:3] = tiny
    assert torch.isfinite(jitter_intensity(values, 1.0, 99.0, 1.2, False)).all()


def test_a_huge_contrast_does_not_become_nan() -> None:
    values = image(4, 6, 6, 6) * 1e15
    assert torch.isfinite(jitter_intensity(values, 1.0, 99.0, 1.2, False)).all()


# ---------------------------------------------------------------------------------------- large images


def large(seed: int) -> torch.Tensor:
    values = image(seed, 80, 80, 80) * 50 + 1000  # eight times more voxels than are sampled
    assert values.numel() > 4 * SAMPLED_VOXELS
    return values


@pytest.mark.parametrize("gamma", [0.7, 1.5])
@pytest.mark.parametrize("invert", [False, True])
def test_mean_and_spread_of_a_large_image_come_back_closely(gamma: float, invert: bool) -> None:
    values = large(1)
    changed = jitter_intensity(values, 1.0, 99.0, gamma, invert)
    assert float(changed.mean()) == pytest.approx(float(values.mean()), abs=0.02 * float(values.std()))
    assert float(changed.std()) == pytest.approx(float(values.std()), rel=0.02)


def test_a_large_image_is_mapped_from_its_very_smallest_and_largest_value() -> None:
    values = large(2)
    values[79, 79, 78], values[79, 79, 77] = -4000.0, 9000.0
    levels = contrast_map(values, 1.0, 99.0)
    assert levels[79, 79, 78] == 0
    assert levels[79, 79, 77] == pytest.approx(1)
    assert levels.min() == 0
    assert levels.max() == pytest.approx(1)


def test_a_large_image_whose_only_contrast_is_in_a_few_voxels_stays_as_it_is() -> None:
    values = torch.zeros(80, 80, 80)
    values[40, 41, 43] = 1e6  # not one of those that are sampled
    assert torch.equal(jitter_intensity(values, 1.0, 99.0, 0.7, True), values)


@quick
@given(st.integers(1, 300), st.integers(1, 300), SEEDS)
def test_an_image_is_mapped_in_pieces_as_it_is_at_once(piece: int, voxels: int, seed: int) -> None:
    values = image(seed, voxels)
    tone = Tone(float(values.min()), ((0.5, 0.2), (1.0, 0.7), (2.0, 0.1)), 0.8, -3.0, 100.0)
    at_once, in_pieces = values.clone(), values.clone()
    apply_tone(at_once, tone)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(tone_module, "PIECE_VOXELS", piece)
        apply_tone(in_pieces, tone)
    torch.testing.assert_close(in_pieces, at_once, rtol=1e-5, atol=1e-5)


def test_each_channel_has_a_map_of_its_own() -> None:
    values = torch.stack([image(5, 9, 9, 9), torch.ones(9, 9, 9), image(6, 9, 9, 9) * 40])
    first, none, last = measure_tones(values, (0.5, 1.0, 2.0), (98.0, 99.0, 99.5), (0.7, 1.0, 1.4), True)
    assert none is None
    assert first == tone_of(values[0], 0.5, 98.0, 0.7, True)
    assert last == tone_of(values[2], 2.0, 99.5, 1.4, True)
