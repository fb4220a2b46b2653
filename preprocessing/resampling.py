"""nnU-Net's resampling with splines, as one small matrix for each axis.

What nnU-Net asks of skimage, and skimage of scipy, is linear, and treats each axis by itself. So resampling an axis is
a product with a matrix, whose columns are what skimage makes of unit vectors: borders and rounding of positions are
then theirs by construction. The products are in double precision, like theirs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD
from nnunetv2.preprocessing.resampling.default_resampling import (
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

# Data (c, x, y, z), new shape, spacing before and after: what nnU-Net's resampling functions take.
Resampler = Callable[[NDArray[Any], Sequence[int], Sequence[float], Sequence[float]], NDArray[Any]]

_ORDERS = range(6)
_KNOWN = {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}

# Of a row of a matrix, only some 30 weights on either side (50 at order 5) reach this, which is far below what double
# precision resolves of the largest; the others are left out, a block of rows at a time. With 512 voxels that
# takes 0.4 of the time; blocks of 32 to 128 rows take about as long.
_NEGLIGIBLE = 2.0**-60
_BLOCK = 64
_CHUNK = 2**17  # values that are worked on at a time: 1 MB, which stays in the cache

_TIE = 1e-6  # shares of inside and outside that differ by less are equal but for rounding

# Consecutive rows of a matrix, the columns in which they have weights, and these.
_Block = tuple[slice, slice, NDArray[np.float64]]


def resampler_of(configured: Any) -> Resampler:
    """Return a function that makes the voxels of a plan's resampling function.

    Splines of nnU-Net with arguments that are known here become `resample_splines`; anything else is called as it is.
    """
    given = _given_to_splines(configured)
    if given is not None and not given.pop("is_seg", False):
        return partial(resample_splines, **given)
    return _one_thread(configured)


def mask_resampler_of(configured: Any) -> Resampler:
    """Return the same for a plan's resampling of labels, here of a mask: 0 inside and -1 outside.

    Only nnU-Net's own choice for labels, linear interpolation, becomes `resample_mask`.
    """
    given = _given_to_splines(configured) or {}
    linear = [given.pop(name, None) for name in ("is_seg", "order", "order_z")] == [True, 1, 0]
    return partial(resample_mask, **given) if linear else _one_thread(configured)


def _given_to_splines(configured: Any) -> dict[str, Any] | None:
    """Return what a plan gives to nnU-Net's splines; None where it has another function, or unknown arguments."""
    if not isinstance(configured, partial) or configured.func is not resample_data_or_seg_to_shape or configured.args:
        return None
    given = dict(configured.keywords)
    orders = (given.get("order", 3), given.get("order_z", 0))
    return given if given.keys() <= _KNOWN and all(order in _ORDERS for order in orders) else None


def _one_thread(configured: Any) -> Resampler:
    if "num_threads" in inspect.signature(configured).parameters:
        configured = partial(configured, num_threads=1)  # the torch variant's 4 threads are for one process, not many
    return cast(Resampler, configured)


def resample_splines(
    data: NDArray[np.float32],
    shape: Sequence[int],
    before: Sequence[float],
    target: Sequence[float],
    order: int = 3,
    order_z: int = 0,
    force_separate_z: bool | None = False,
    separate_z_anisotropy_threshold: float = ANISO_THRESHOLD,
) -> NDArray[np.float32]:
    """Return what nnU-Net's `resample_data_or_seg_to_shape` makes of an image (c, x, y, z); arguments are as there."""
    if data.shape[1:] == tuple(shape):
        return data
    if data.dtype != np.float32 or not np.isfinite(data.sum(dtype=np.float64)):
        # A product spreads one NaN over everything; loops may pass it by.
        options = (False, order, order_z, force_separate_z, separate_z_anisotropy_threshold)
        return np.asarray(resample_data_or_seg_to_shape(data, shape, before, target, *options))
    threshold = separate_z_anisotropy_threshold
    separate, axis = determine_do_sep_z_and_axis(cast(bool, force_separate_z), before, target, threshold)
    resampled = np.empty((len(data), *shape), np.float32)
    for image, out in zip(data, resampled, strict=True):
        if separate:
            _separately(np.moveaxis(image, axis, 0), np.moveaxis(out, axis, 0), order, order_z)
        else:
            _together(image, out, order)
    return resampled


def resample_mask(
    mask: NDArray[np.int8],
    shape: Sequence[int],
    before: Sequence[float],
    target: Sequence[float],
    **separately: Any,
) -> NDArray[np.int8]:
    """Return what nnU-Net makes of a mask (1, x, y, z): of inside and outside, each interpolated, the larger.

    Where they are equal the nearest voxel decides. nnU-Net lets the rounding of its sums decide some of these.
    """
    if mask.shape[1:] == tuple(shape):
        return mask
    inside = (mask >= 0).astype(np.float32)
    share = resample_splines(inside, shape, before, target, order=1, **separately)
    resampled = share > 0.5
    tied = np.abs(share - 0.5) < _TIE
    if tied.any():
        resampled[tied] = resample_splines(inside, shape, before, target, order=0, **separately)[tied] > 0.5
    return np.subtract(resampled, 1, dtype=np.int8)


def _together(image: NDArray[np.float32], out: NDArray[np.float32], order: int) -> None:
    """Resample all axes, first those that make the image smaller, and clip to the values of the image."""
    across = _spline_matrix(len(image), len(out), order)
    if image.shape[1:] == out.shape[1:]:
        _across(image, across, out)
    elif len(image) == len(out):
        _planes(image, order, out)
    elif len(image) < len(out):
        between = np.empty((len(image), *out.shape[1:]))
        _planes(image, order, between)
        _across(between, across, out)
    else:
        between = np.empty((len(out), *image.shape[1:]))
        _across(image, across, between)
        _planes(between, order, out)
    np.clip(out, image.min(), image.max(), out=out)


def _separately(image: NDArray[np.float32], out: NDArray[np.float32], order: int, order_z: int) -> None:
    """Resample each plane of the first axis, clip it to its own values, and then resample that axis."""
    if order_z == 0 and len(out) < len(image):  # planes that nothing is made of are left out at once
        image = image[_positions(np.arange(len(image)), len(out), 0)]
    planes = out if len(image) == len(out) else np.empty((len(image), *out.shape[1:]))
    _planes(image, order, planes)
    low, high = (limit(image, axis=(1, 2), keepdims=True) for limit in (np.min, np.max))
    np.clip(planes, low, high, out=planes)
    if planes is not out:
        _across(planes, _position_matrix(len(image), len(out), order_z), out)


def _planes(image: NDArray[Any], order: int, out: NDArray[Any]) -> None:
    """Resample the second and third axis of an image to the shape of out."""
    rows, columns = (_spline_matrix(n, m, order) for n, m in zip(image.shape[1:], out.shape[1:], strict=True))
    for plane, into in zip(image, out, strict=True):
        into[...] = _product(columns, _product(rows, plane.astype(np.float64)).T).T


def _across(image: NDArray[Any], matrix: tuple[_Block, ...], out: NDArray[Any]) -> None:
    """Resample the first axis of an image to the length of out."""
    step = max(1, _CHUNK // (max(len(image), len(out)) * image.shape[2]))
    for start in range(0, image.shape[1], step):
        part = image[:, start : start + step].astype(np.float64, order="C")
        product = _product(matrix, part.reshape(len(image), -1))
        out[:, start : start + step] = product.reshape(len(out), *part.shape[1:])


def _product(matrix: tuple[_Block, ...], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    if not matrix:
        return columns
    product = np.empty((matrix[-1][0].stop, columns.shape[1]))
    for rows, of, weights in matrix:
        np.matmul(weights, columns[of], out=product[rows])
    return product


@lru_cache(maxsize=32)
def _spline_matrix(before: int, after: int, order: int) -> tuple[_Block, ...]:
    """Return the matrix that makes `after` voxels of `before`; empty where nothing changes."""
    if before == after:
        return ()
    units = np.eye(before)
    return _in_blocks(resize(units, (after, before), order, mode="edge", anti_aliasing=False, clip=False))


@lru_cache(maxsize=32)
def _position_matrix(before: int, after: int, order: int) -> tuple[_Block, ...]:
    """Return the matrix of nnU-Net's own resampling of the axis that it treats separately."""
    return _in_blocks(_positions(np.eye(before), after, order))


def _positions(values: NDArray[Any], after: int, order: int) -> NDArray[Any]:
    """Resample the first axis as nnU-Net does the one that it treats separately."""
    places = [len(values) / after * (np.arange(after) + 0.5) - 0.5, *(np.arange(n) for n in values.shape[1:])]
    return np.asarray(ndimage.map_coordinates(values, np.meshgrid(*places, indexing="ij"), order=order, mode="nearest"))


def _in_blocks(matrix: NDArray[np.float64]) -> tuple[_Block, ...]:
    blocks = []
    for start in range(0, len(matrix), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(matrix)))
        used = np.flatnonzero((np.abs(matrix[rows]) > _NEGLIGIBLE).any(axis=0))
        of = slice(int(used[0]), int(used[-1]) + 1)
        blocks.append((rows, of, np.ascontiguousarray(matrix[rows, of])))
    return tuple(blocks)
