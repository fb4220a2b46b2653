"""The two-crop augmentation: what is drawn, and what is done with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nnunet_volf.augment import (
    Look,
    Window,
    augment,
    contrast_map,
    draw_apart,
    draw_looks,
    draw_window,
    jitter_intensity,
    resize,
)
from nnunet_volf.pretext.volf.settings import VolFSettings

SEEDS = st.integers(0, 2**32 - 1)
ROUNDING = 1e-6  # equal voxels may come out apart by a bit: a vector unit does not round powers as a scalar one does
quick = hypothesis_settings(max_examples=40, deadline=None)


def make(**values: Any) -> VolFSettings:
    return VolFSettings.from_mapping(values)


def second_window(
    rng: np.random.Generator, first: Window, volume: tuple[int, ...], patch: tuple[int, ...], settings: VolFSettings
) -> Window:
    return draw_apart(lambda: draw_window(rng, volume, patch, settings.scale), first, patch, settings.minimum_distance)


def image(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


# ---------------------------------------------------------------------------------------------- resize


@quick
@given(
    st.one_of(
        st.tuples(*[st.tuples(st.integers(1, 20), st.integers(1, 20))] * 2),
        st.tuples(*[st.tuples(st.integers(1, 12), st.integers(1, 12))] * 3),
    ),
    st.integers(1, 3),
    SEEDS,
)
def test_resizing_equals_scipys_zoom_of_order_one(sides: tuple[tuple[int, int], ...], channels: int, seed: int) -> None:
    volume, patch = image(seed, channels, *(a for a, _ in sides)), tuple(b for _, b in sides)
    resized = resize(volume, patch).numpy()
    np.testing.assert_allclose(resized, reference.resize(volume.numpy(), patch), atol=2e-5)


def test_resizing_to_the_same_size_changes_no_bit() -> None:
    volume = image(0, 2, 5, 6, 7)
    assert torch.equal(resize(volume, (5, 6, 7)), volume)


# --------------------------------------------------------------------------------------------- windows


@quick
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(2, 24)), min_size=3, max_size=3),
    SEEDS,
    st.tuples(st.integers(1, 10), st.integers(10, 40)),
)
def test_a_window_lies_inside_and_has_a_size_within_the_scale(
    axes: list[tuple[int, int]], seed: int, tenths: tuple[int, int]
) -> None:
    volume, patch = zip(*axes, strict=True)
    low, high = tenths[0] / 10, tenths[1] / 10
    window = draw_window(np.random.default_rng(seed), volume, patch, (low, high))
    for start, size, side, inner in zip(window.start, window.size, volume, patch, strict=True):
        assert 0 <= start <= start + size <= side
        assert min(side, max(1, math.floor(inner * low))) <= size <= min(side, max(1, inner * high))


def test_windows_reach_both_ends_of_the_volume() -> None:
    drawn = [draw_window(np.random.default_rng(i), (20, 20, 20), (8, 8, 8), (1.0, 1.0)).start for i in range(200)]
    assert np.min(drawn, axis=0).tolist() == [0, 0, 0]
    assert np.max(drawn, axis=0).tolist() == [12, 12, 12]


def test_window_sizes_spread_over_the_whole_scale() -> None:
    sizes = [draw_window(np.random.default_rng(i), (300,) * 3, (100,) * 3, (0.7, 1.5)).size for i in range(400)]
    assert 70 <= np.min(sizes) <= 72
    assert 147 <= np.max(sizes) <= 150
    assert np.mean(sizes) == pytest.approx(109.5, abs=4 * 80 / math.sqrt(12 * 1200))


def test_the_scale_is_drawn_for_each_axis_on_its_own() -> None:
    sizes = np.array(
        [draw_window(np.random.default_rng(i), (300,) * 3, (100,) * 3, (0.7, 1.5)).size for i in range(400)]
    )
    correlations = np.corrcoef(sizes.T)[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 4 / math.sqrt(400)


def test_an_axis_of_one_voxel_stays_one_voxel_thick() -> None:
    drawn = [draw_window(np.random.default_rng(i), (30, 64, 64), (1, 32, 32), (0.7, 4.0)) for i in range(100)]
    assert {window.size[0] for window in drawn} == {1}
    assert len({window.start[0] for window in drawn}) > 20


def centre_distance(a: Window, b: Window, patch: tuple[int, ...]) -> float:
    centres = [np.array(w.start) + np.array(w.size) / 2 for w in (a, b)]
    return float(np.max(np.abs(centres[0] - centres[1]) / np.array(patch)))


def test_a_second_window_keeps_its_distance_where_there_is_room() -> None:
    patch, volume, chosen = (16, 16, 16), (64, 64, 64), make(minimum_distance=0.5)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        first = draw_window(rng, volume, patch, chosen.scale)
        second = second_window(rng, first, volume, patch, chosen)
        assert centre_distance(first, second, patch) >= 0.5


def test_the_distance_is_not_kept_by_chance() -> None:
    """Without the rule, some of the pairs above would be nearer."""
    patch, volume, chosen = (16, 16, 16), (64, 64, 64), make(minimum_distance=0.0)
    distances = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        first = draw_window(rng, volume, patch, chosen.scale)
        distances.append(centre_distance(first, second_window(rng, first, volume, patch, chosen), patch))
    assert min(distances) < 0.5


def test_without_room_the_farthest_of_ten_windows_is_taken() -> None:
    patch, volume, chosen = (16, 16, 16), (20, 20, 20), make(minimum_distance=4.0)
    for seed in range(50):
        first = draw_window(np.random.default_rng([1, seed]), volume, patch, chosen.scale)
        rng = np.random.default_rng([2, seed])
        candidates = [draw_window(rng, volume, patch, chosen.scale) for _ in range(10)]
        farthest = max(centre_distance(first, window, patch) for window in candidates)
        chosen_window = second_window(np.random.default_rng([2, seed]), first, volume, patch, chosen)
        assert chosen_window in candidates
        assert centre_distance(first, chosen_window, patch) == pytest.approx(farthest)


def test_a_volume_without_any_room_gives_the_same_window_twice() -> None:
    chosen = make(minimum_distance=1.0, scale=[1.0, 1.0])
    first = Window((0, 0, 0), (8, 8, 8))
    assert second_window(np.random.default_rng(0), first, (8, 8, 8), (8, 8, 8), chosen) == first


# ----------------------------------------------------------------------------------------------- looks


def drawn_looks(count: int, channels: int = 1, **values: Any) -> list[tuple[Look, Look]]:
    return [draw_looks(np.random.default_rng([3, i]), channels, 3, make(**values)) for i in range(count)]


def within_chance(hits: int, tosses: int, probability: float) -> bool:
    """Whether a count of hits lies within four standard deviations of what the probability promises."""
    return abs(hits - tosses * probability) < 4 * math.sqrt(tosses * probability * (1 - probability))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_each_axis_is_flipped_as_often_as_set(axis: int, which: int, probability: float) -> None:
    flipped = sum(axis in pair[which].flips for pair in drawn_looks(1500, flip=probability))
    assert within_chance(flipped, 1500, probability)


@pytest.mark.parametrize("probability", [0.25, 0.6])
def test_pairs_are_inverted_as_often_as_set(probability: float) -> None:
    inverted = sum(pair[0].invert for pair in drawn_looks(1500, invert=probability))
    assert within_chance(inverted, 1500, probability)


def test_both_crops_of_a_pair_are_inverted_or_neither() -> None:
    assert all(first.invert == second.invert for first, second in drawn_looks(300))


def test_both_crops_are_flipped_independently() -> None:
    equal = sum((0 in first.flips) == (0 in second.flips) for first, second in drawn_looks(1500))
    assert within_chance(equal, 1500, 0.5)


@pytest.mark.parametrize("name", ["low", "high", "gamma"])
def test_both_crops_get_intensities_of_their_own(name: str) -> None:
    values = np.array([[getattr(look, name)[0] for look in pair] for pair in drawn_looks(400)])
    assert (values[:, 0] != values[:, 1]).all()
    assert abs(np.corrcoef(values.T)[0, 1]) < 4 / math.sqrt(400)


@pytest.mark.parametrize(("name", "low", "high"), [("low", 0.1, 2.0), ("high", 98.0, 99.9), ("gamma", 0.7, 1.5)])
def test_intensities_are_drawn_from_the_published_intervals(name: str, low: float, high: float) -> None:
    values = np.array([getattr(look, name) for pair in drawn_looks(500) for look in pair])
    width = high - low
    assert low <= values.min() < low + 0.02 * width
    assert high - 0.02 * width < values.max() <= high
    assert values.mean() == pytest.approx((low + high) / 2, abs=4 * width / math.sqrt(12 * 1000))


def test_each_channel_gets_intensities_of_its_own() -> None:
    for pair in drawn_looks(20, channels=3):
        for look in pair:
            assert [len(set(values)) for values in (look.low, look.high, look.gamma)] == [3, 3, 3]


def test_without_intensity_only_flips_are_drawn() -> None:
    pairs = drawn_looks(50, intensity=False, invert=1.0)
    assert all(look == Look(look.flips) for pair in pairs for look in pair)
    assert any(look.flips for pair in pairs for look in pair)


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


def test_a_constant_image_is_mapped_to_zero() -> None:
    assert not contrast_map(torch.full((4, 4, 4), 7.3), 1.0, 99.0).any()


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


# ---------------------------------------------------------------------------------------- all together


@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_flips_are_numpys(flips: tuple[int, ...]) -> None:
    volume = image(5, 2, 4, 5, 6)
    shown = augment(volume, (4, 5, 6), Look(flips)).numpy()
    np.testing.assert_array_equal(shown, np.flip(volume.numpy(), [axis + 1 for axis in flips]))


def test_augmenting_resizes_flips_and_jitters_each_channel() -> None:
    volume = image(6, 2, 9, 10, 11)
    look = Look((1,), low=(0.5, 1.5), high=(98.5, 99.5), gamma=(0.8, 1.3), invert=True)
    resized = np.flip(reference.resize(volume.numpy(), (6, 7, 8)), 2)
    expected = np.stack(
        [
            reference.jitter(resized[0], 0.5, 98.5, 0.8, True),
            reference.jitter(resized[1], 1.5, 99.5, 1.3, True),
        ]
    )
    np.testing.assert_allclose(augment(volume, (6, 7, 8), look).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("patch", [(4, 5, 6), (7, 7, 7)])
def test_augmenting_leaves_its_input_as_it_is(patch: tuple[int, ...]) -> None:
    volume = image(7, 1, 4, 5, 6)
    before = volume.clone()
    augment(volume, patch, Look((0,), (1.0,), (99.0,), (1.3,), True)).zero_()
    assert torch.equal(volume, before)


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.float16, torch.float64])
def test_any_type_of_number_comes_out_as_float32_with_its_contrast(dtype: torch.dtype) -> None:
    volume = (image(8, 1, 6, 6, 6).abs() * 40).to(dtype)
    shown = augment(volume, (6, 6, 6), Look((), (1.0,), (99.0,), (1.3,), False))
    assert shown.dtype == torch.float32
    assert len(shown.unique()) >= len(volume.unique())


@pytest.mark.parametrize("patch", [(8, 9), (4, 8, 9)])
def test_augmenting_is_a_function_of_its_parameters(patch: tuple[int, ...]) -> None:
    volume, chosen = image(9, 2, *(side + 3 for side in patch)), make()
    shown = [
        augment(volume, patch, draw_looks(np.random.default_rng(seed), 2, len(patch), chosen)[0]) for seed in (1, 1, 2)
    ]
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])
