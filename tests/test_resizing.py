"""Bringing crops to the size of a patch, and mirroring them."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from nnunet_volf import resizing
from nnunet_volf.resizing import resize

SEEDS = st.integers(0, 2**32 - 1)
FLAT = st.tuples(*[st.tuples(st.integers(1, 20), st.integers(1, 20))] * 2)
SOLID = st.tuples(*[st.tuples(st.integers(1, 12), st.integers(1, 12))] * 3)
quick = settings(max_examples=40, deadline=None)


def image(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@quick
@given(st.one_of(FLAT, SOLID), st.integers(1, 3), SEEDS)
def test_resizing_equals_scipys_zoom_of_order_one(sides: tuple[tuple[int, int], ...], channels: int, seed: int) -> None:
    volume, patch = image(seed, channels, *(a for a, _ in sides)), tuple(b for _, b in sides)
    resized = resize(volume, patch).numpy()
    np.testing.assert_allclose(resized, reference.resize(volume.numpy(), patch), atol=2e-5)


@quick
@given(st.one_of(FLAT, SOLID), st.sets(st.integers(0, 2)), SEEDS)
def test_flips_are_numpys_flips_of_the_resized_volume(
    sides: tuple[tuple[int, int], ...], flipped: set[int], seed: int
) -> None:
    volume, patch = image(seed, 2, *(a for a, _ in sides)), tuple(b for _, b in sides)
    flips = tuple(sorted(flipped & set(range(len(patch)))))
    expected = np.flip(reference.resize(volume.numpy(), patch), [axis + 1 for axis in flips])
    np.testing.assert_allclose(resize(volume, patch, flips).numpy(), expected, atol=2e-5)


@quick
@given(SOLID, st.sets(st.integers(0, 2)), st.integers(1, 200), SEEDS)
def test_slabs_give_what_other_devices_compute_at_once(
    sides: tuple[tuple[int, int], ...], flips: set[int], voxels: int, seed: int
) -> None:
    volume, patch = image(seed, 2, *(a for a, _ in sides)), tuple(b for _, b in sides)
    at_once = interpolate(volume[None], size=patch, mode="trilinear", align_corners=True)[0]
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(resizing, "SLAB_VOXELS", voxels)
        resized = resize(volume, patch, tuple(flips))
    torch.testing.assert_close(resized, at_once.flip([axis + 1 for axis in flips]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(1000, 3, 3), (3, 1000, 3), (3, 3, 1000)])
@pytest.mark.parametrize("wanted", [999, 700, 1400])
def test_long_axes_are_resized_exactly_enough(size: tuple[int, ...], wanted: int) -> None:
    patch = tuple(wanted if side == 1000 else side for side in size)
    ramp = sum(torch.arange(side).float().reshape([-1 if a == axis else 1 for a in range(3)])
               for axis, side in enumerate(size))[None]  # fmt: skip
    expected = reference.resize(ramp.numpy(), patch)
    np.testing.assert_allclose(resize(ramp, patch).numpy(), expected, rtol=1e-6, atol=1e-4)


def test_resizing_to_the_same_size_changes_no_bit() -> None:
    volume = image(0, 2, 5, 6, 7)
    assert torch.equal(resize(volume, (5, 6, 7)), volume)
    assert torch.equal(resize(volume, (5, 6, 7), (1,)), volume.flip(2))


def test_resizing_leaves_its_input_as_it_is() -> None:
    volume = image(1, 1, 5, 6, 7)
    before = volume.clone()
    resize(volume, (6, 6, 6), (0, 2)).zero_()
    assert torch.equal(volume, before)
