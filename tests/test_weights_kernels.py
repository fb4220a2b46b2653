"""Kernels of other sizes and dimensions: what of the response is kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_volf.weights.kernels import DoesNotFit, describe_kernel, fit_kernel

odd = st.sampled_from([1, 3, 5, 7])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Convolve without changing the size, as nnU-Net does."""
    convolve = functional.conv3d if weight.ndim == 5 else functional.conv2d
    return convolve(image, weight, padding=[side // 2 for side in weight.shape[2:]])


@settings(deadline=None)
@given(st.tuples(odd, odd, odd), st.tuples(odd, odd, odd))
def test_taps_go_to_the_nearest_place_that_the_new_kernel_has(
    before: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    weight = random(2, 1, *before)
    expected = torch.zeros(2, 1, *after, dtype=torch.float64)
    for x in range(before[0]):
        for y in range(before[1]):
            for z in range(before[2]):
                place = [
                    min(max(tap - old // 2, -(new // 2)), new // 2) + new // 2
                    for tap, old, new in zip((x, y, z), before, after, strict=True)
                ]
                expected[:, :, place[0], place[1], place[2]] += weight[:, :, x, y, z]
    torch.testing.assert_close(fit_kernel(weight, after), expected)


@settings(deadline=None)
@given(st.tuples(odd, odd, odd), st.tuples(odd, odd, odd))
def test_a_kernel_that_grows_answers_exactly_as_before(
    before: tuple[int, int, int], more: tuple[int, int, int]
) -> None:
    after = tuple(a + b - 1 for a, b in zip(before, more, strict=True))
    weight, image = random(3, 2, *before), random(1, 2, 6, 6, 6, seed=1)
    torch.testing.assert_close(same(image, fit_kernel(weight, after)), same(image, weight))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("before", "after"), [(3, 1), (5, 3), (7, 1)])
def test_a_kernel_that_shrinks_answers_as_before_where_the_image_is_constant_along_that_axis(
    axis: int, before: int, after: int
) -> None:
    sides = [3, 3, 3]
    sides[axis] = before
    weight = random(3, 2, *sides)
    shape = [6, 6, 6]
    shape[axis] = 1
    image = random(1, 2, *shape, seed=1).expand(1, 2, *[12 if a == axis else 6 for a in range(3)])
    sides[axis] = after
    inside = slice(before // 2, 12 - before // 2)
    was, now = (same(image, w).movedim(axis + 2, 0)[inside] for w in (weight, fit_kernel(weight, sides)))
    torch.testing.assert_close(now, was)


def test_a_2d_kernel_answers_in_each_slice_as_it_did_in_2d() -> None:
    weight, image = random(3, 2, 3, 3), random(1, 2, 5, 8, 8, seed=1)
    in_3d = same(image, fit_kernel(weight, (3, 3, 3)))
    for z in range(5):
        torch.testing.assert_close(in_3d[:, :, z], same(image[:, :, z], weight))


def test_a_3d_kernel_answers_in_2d_as_in_a_volume_of_equal_slices() -> None:
    weight, image = random(3, 2, 3, 3, 3), random(1, 2, 8, 8, seed=1)
    in_3d = same(image[:, :, None].expand(1, 2, 5, 8, 8), weight)[:, :, 2]
    torch.testing.assert_close(same(image, fit_kernel(weight, (3, 3))), in_3d)


@pytest.mark.parametrize("after", [(2, 2, 2), (1, 2, 4), (4, 4, 2)])
def test_upsampling_that_grows_repeats_what_it_made_before(after: tuple[int, int, int]) -> None:
    weight, image = random(3, 2, 1, 2, 2), random(1, 3, 3, 3, 3, seed=1)
    before = functional.conv_transpose3d(image, weight, stride=(1, 2, 2))
    grown = functional.conv_transpose3d(image, fit_kernel(weight, after, transposed=True), stride=after)
    for axis, times in enumerate((after[0], after[1] // 2, after[2] // 2), start=2):
        before = before.repeat_interleave(times, axis)
    torch.testing.assert_close(grown, before)


def test_upsampling_that_shrinks_makes_the_mean_of_what_it_made_before() -> None:
    weight, image = random(3, 2, 2, 2, 4), random(1, 3, 3, 3, 3, seed=1)
    before = functional.conv_transpose3d(image, weight, stride=(2, 2, 4))
    shrunk = functional.conv_transpose3d(image, fit_kernel(weight, (1, 2, 2), transposed=True), stride=(1, 2, 2))
    torch.testing.assert_close(shrunk, functional.avg_pool3d(before, (2, 1, 2)))


def test_upsampling_in_2d_and_3d_make_the_same_of_equal_slices() -> None:
    flat, image = random(3, 2, 2, 2), random(1, 3, 3, 3, seed=1)
    in_2d = functional.conv_transpose2d(image, flat, stride=2)
    deep = fit_kernel(flat, (2, 2, 2), transposed=True)
    in_3d = functional.conv_transpose3d(image[:, :, None], deep, stride=2)
    for z in range(2):
        torch.testing.assert_close(in_3d[:, :, z], in_2d)
    torch.testing.assert_close(fit_kernel(deep, (2, 2), transposed=True), flat)


def test_a_kernel_of_the_same_size_is_left_as_it_is() -> None:
    weight = random(3, 2, 3, 3, 3)
    assert torch.equal(fit_kernel(weight, (3, 3, 3)), weight)


def test_kernels_without_a_common_middle_do_not_fit() -> None:
    with pytest.raises(DoesNotFit, match=r"a kernel of 3 has no middle in common with one of 2"):
        fit_kernel(random(1, 1, 3, 3, 3), (3, 3, 2))


def test_strides_that_are_no_multiples_do_not_fit() -> None:
    with pytest.raises(DoesNotFit, match=r"a stride of 2 is no multiple of 3"):
        fit_kernel(random(1, 1, 2, 2, 2), (2, 2, 3), transposed=True)


def test_what_was_done_is_said() -> None:
    assert describe_kernel((1, 3, 3), (3, 3, 3)) == "kernel 1x3x3 -> 3x3x3"
    assert describe_kernel((2, 2), (2, 2, 2), transposed=True) == "upsampling 2x2 -> 2x2x2"
