"""A name for what an image shows, whatever the file that stores it: equal voxels, equal name."""

from __future__ import annotations

import hashlib

import numpy as np

from .orientation import reoriented
from .volumes import Volume

SLAB_VOXELS = 1 << 22  # 16 MB of float32 at a time; slabs this thick also read transposed storage in whole cache lines


def content_hash(volume: Volume) -> str:
    """Return 32 hex digits of the shape and the float32 values in one orientation.

    Number type, container, flips and transposition of the stored axes make no difference, nor does the sign of zero.
    Spacing is left out: it is rounded differently by every converter.
    """
    voxels = reoriented(volume)
    digest = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    thickness = max(1, SLAB_VOXELS // max(1, voxels[0].size))
    for start in range(0, len(voxels), thickness):
        with np.errstate(over="ignore"):  # a double beyond float32 is infinite in every copy of the image
            slab = np.array(voxels[start : start + thickness], dtype="<f4", order="C")
        slab += 0.0  # -0.0 + 0.0 is 0.0
        digest.update(slab.data)
    return digest.hexdigest()
