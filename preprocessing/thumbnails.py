"""One small picture of a volume, turned as radiologists look at it."""

from __future__ import annotations

import io
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .volumes import Volume

LONGEST_SIDE = 112  # pixels
# Spacings that differ by less than a fifth count as equal: then the anatomy, not the scanner, decides the plane.
_ALIKE = 1.2
# 64 grey levels look the same at this size and make the file a third smaller.
_LEVELS = 64


def thumbnail(volume: Volume) -> bytes:
    """Return the middle slice as a PNG of at most 112 pixels, without metadata.

    The slice is taken across the coarsest axis, where a plane has its full resolution. Where several axes are about as
    coarse (always, in an isotropic volume) it is the axial plane if that is among them, else the coronal one. Patient
    left is on the right and the head at the top, and pixels are square whatever the spacing.
    """
    plane, (row_spacing, column_spacing) = _middle_plane(volume)
    height, width = plane.shape[0] * row_spacing, plane.shape[1] * column_spacing
    scale = LONGEST_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(_grey(plane)).resize(size, Image.Resampling.BICUBIC)
    step = 256 // _LEVELS
    picture = picture.point([value // step * 255 // (_LEVELS - 1) for value in range(256)])
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _middle_plane(volume: Volume) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return a plane as (rows, columns) and the spacing of its rows and columns."""
    voxels, spacing = _in_patient_order(volume)
    across = next(axis for axis in range(3) if spacing[axis] * _ALIKE >= max(spacing))
    plane = np.take(voxels, voxels.shape[across] // 2, axis=across).astype(np.float32)
    if across != 0:
        plane = plane[::-1]  # rows run along the patient's height, and pictures are drawn from the top
    rows, columns = (spacing[axis] for axis in range(3) if axis != across)
    return plane, (rows, columns)


def _in_patient_order(volume: Volume) -> tuple[NDArray[np.generic], tuple[float, float, float]]:
    """Return a view whose axes run towards head, back and left, as closely as the stored axes can, and its spacing."""
    matrix = np.reshape(volume.direction, (3, 3))  # column j: where stored axis j points to
    stored = max(permutations(range(3)), key=lambda order: sum(abs(matrix[k, order[k]]) for k in range(3)))
    voxels = np.transpose(volume.voxels, [2 - stored[k] for k in (2, 1, 0)])
    voxels = np.flip(voxels, tuple(2 - k for k in range(3) if matrix[k, stored[k]] < 0))
    return voxels, (volume.spacing[stored[2]], volume.spacing[stored[1]], volume.spacing[stored[0]])


def _grey(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch what lies between the 0.5 and 99.5 percentile over all grey levels."""
    low, high = np.percentile(plane, (0.5, 99.5))
    if high <= low:
        low, high = float(plane.min()), float(max(plane.max(), plane.min() + 1))
    grey: NDArray[np.uint8] = np.round(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return grey
