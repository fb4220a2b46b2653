"""How far two surfaces lie apart: NSD, HD95 and ASSD of a class, in mm.

Written on SciPy's distance transform rather than taken from a metrics library. Looked at in November 2026: MONAI's
releases each demand a recent torch and would replace the one that a user's nnU-Net runs with, MedPy has no NSD, and
DeepMind's surface-distance calls what SciPy has removed. The numbers are those of MONAI's metrics (see the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Surface:
    """The three measures of a class."""

    nsd: float
    hd95: float
    assd: float


def compare_surfaces(truth: Mask, prediction: Mask, spacing: Sequence[float], tolerance: float) -> Surface | None:
    """Compare a class in two segmentations of one image; None where neither has it.

    Where only one of them has it there is no distance. The diagonal of the image takes its place, so that missing an
    organ altogether is worse than any way of finding it, and no case drops out of a comparison.
    """
    if not truth.any() and not prediction.any():
        return None
    if not truth.any() or not prediction.any():
        diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing)))
        return Surface(0.0, diagonal, diagonal)
    box = _box_around(truth | prediction)
    there, back = _distances(_surface(truth[box]), _surface(prediction[box]), spacing)
    both = np.concatenate([there, back])
    return Surface(
        nsd=float((both <= tolerance).mean()),
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd=float(both.mean()),
    )


def _box_around(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box that holds a mask: no distance between surfaces leads out of it."""
    occupied = (np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim))
    return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in occupied)


def _surface(mask: Mask) -> Mask:
    """Return the voxels of a mask that touch what is not part of it, across a face or at the image's border."""
    surface: Mask = mask & ~binary_erosion(mask)
    return surface


def _distances(first: Mask, second: Mask, spacing: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far each voxel of one surface is from the other surface, and the other way round."""
    to_first = distance_transform_edt(~first, sampling=spacing)
    to_second = distance_transform_edt(~second, sampling=spacing)
    return to_second[first], to_first[second]
