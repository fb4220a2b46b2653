"""Linear interpolation of a stack of slices: upright where it was sheared, even where slices were not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGITS = 6  # of shares of a voxel; closer than that is the same place


def upright_stack(
    voxels: NDArray[Any], sideways: NDArray[np.float64], spacing: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Bring slices that are shifted along x and y onto one grid that holds all of them.

    Args:
        voxels: (z, y, x)
        sideways: (z, 2) shift of each slice along x and y in millimetres
        spacing: of x and y (and more)

    Returns:
        The voxels, NaN where a slice does not reach; and how far along x and y the first voxel has moved, in
        millimetres.
    """
    pixels = np.array(spacing[:2])
    shifts = np.round(sideways / pixels, _DIGITS)
    first = np.floor(shifts.min(axis=0))
    size = np.ceil(shifts.max(axis=0)) - first + np.array(voxels.shape[:0:-1])
    upright = np.full((len(voxels), int(size[1]), int(size[0])), np.nan, dtype=np.float32)
    for plane, target, (x, y) in zip(voxels, upright, shifts - first, strict=True):
        for_rows = _shift(plane.astype(np.float64), y)
        moved = _shift(for_rows.T, x).T
        row, column = int(np.ceil(y)), int(np.ceil(x))
        target[row : row + moved.shape[0], column : column + moved.shape[1]] = moved
    return upright, first * pixels


def even_stack(voxels: NDArray[Any], distances: NDArray[np.float64], step: float) -> tuple[NDArray[np.float32], float]:
    """Interpolate slices at given distances onto an even grid from the first to the last of them.

    Returns the voxels and the spacing, which is as close to `step` as a whole number of slices allows.
    """
    count = round(float(distances[-1] - distances[0]) / step) + 1
    targets = np.linspace(distances[0], distances[-1], count)
    even = np.empty((count, *voxels.shape[1:]), dtype=np.float32)
    lower = np.clip(np.searchsorted(distances, targets, side="right") - 1, 0, len(distances) - 2)
    for plane, target, below in zip(even, targets, lower, strict=True):
        share = round((target - distances[below]) / (distances[below + 1] - distances[below]), _DIGITS)
        if share in (0, 1):  # a neighbour that does not count must not hand on its NaN
            plane[...] = voxels[below + int(share)]
        else:
            plane[...] = (1 - share) * voxels[below].astype(np.float32) + share * voxels[below + 1].astype(np.float32)
    return even, float(targets[1] - targets[0])


def _shift(plane: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """Return the values of an image, moved by `by` rows, at the whole rows that lie within it."""
    rest = float(np.ceil(by) - by)
    # The value at whole row r stood at r - by, which is `rest` beyond a row of the image.
    return plane if rest == 0 else (1 - rest) * plane[:-1] + rest * plane[1:]
