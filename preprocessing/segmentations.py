"""Segmentations lie among the scans of many archives; they are told by what they hold, not by their names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .refusals import Refused

# The 140 images of the hippocampus data (Medical Segmentation Decathlon; a fifth of them with 8 bits) have 109 values
# or more, and at most 8 % of their voxels equal the next one; the 60 label maps have 3 values, and 85 % or more.
FEW_VALUES = 16
MOST_LABELS = 256
LABELS_CONSTANT = 0.75

_VOXELS = 1 << 20  # looked at, in the middle of the volume


def check_is_scan(voxels: NDArray[Any]) -> None:
    """Refuse a segmentation: whole numbers of which there are few, or that stay the same from voxel to voxel."""
    middle, around = len(voxels) // 2, _VOXELS // voxels[0].size // 2
    slab = voxels[max(0, middle - around) : middle + around + 1]
    if slab.dtype.kind == "f" and (slab != np.rint(slab)).any():
        return
    values, counts = np.unique(slab, return_counts=True)
    if len(values) > MOST_LABELS:
        return
    drawn = slab[..., :-1] != values[counts.argmax()]  # of a masked scan, too, the background is constant
    same = float((slab[..., 1:] == slab[..., :-1])[drawn].mean()) if drawn.any() else 1.0
    if len(values) <= FEW_VALUES or same > LABELS_CONSTANT:
        raise Refused(
            "labels",
            f"It looks like a segmentation: {len(values)} different whole numbers in its middle, and {same:.0%} of the "
            "voxels off the background equal the next one.",
            "Nothing, if it is one; a pattern such as --channels 'CT=ct.nii.gz' keeps them out of the import.",
        )
