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
    draw_apart,
    draw_looks,
    draw_window,
)
from nnunet_volf.pretext.volf.settings import VolFSettings

SEEDS = st.integers(0, 2**32 - 1)
quick = hypothesis_settings(max_examples=40, deadline=None)


def make(**values: Any) -> VolFSettings:
    return VolFSettings.from_mapping({"intensity": True, **values})


def second_window(
    rng: np.random.Generator, first: Window, volume: tuple[int, ...], patch: tuple[int, ...], settings: VolFSettings
) -> Window:
    return draw_apart(lambda: draw_window(rng, volume, patch, settings.scale), first, patch, settings.minimum_distance)


def image(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


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


@pytest.mark.parametrize("size", [(6, 7, 8), (4, 5, 9)])
def test_augmenting_takes_crops_that_are_views_of_a_volume(size: tuple[int, ...]) -> None:
    volume = image(10, 2, 9, 12, 11)
    view = volume.transpose(1, 3)[:, 2:8, 1:8, :8]
    look = Look((), (1.0, 1.0), (99.0, 99.0), (1.3, 0.8), False)
    assert not view.is_contiguous()
    assert torch.equal(augment(view, size, look), augment(view.contiguous(), size, look))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("patch", [(40, 48), (40, 48, 56)])
def test_a_gpu_augments_as_a_cpu_does(patch: tuple[int, ...]) -> None:
    crop = image(11, 2, *(side - 5 for side in patch))
    look = draw_looks(np.random.default_rng(0), 2, len(patch), make(flip=1.0))[0]
    on_gpu = augment(crop.cuda(), patch, look)
    assert on_gpu.is_cuda
    np.testing.assert_allclose(on_gpu.cpu().numpy(), augment(crop, patch, look).numpy(), atol=1e-3)
