"""Bring a crop to the size of a patch, and mirror it on the way.

The floor is reading the crop and writing the patch once each. On a CPU the work is cut into slabs that stay in its
cache: planes are resampled within themselves, and then between each other while they are at hand. With crops of 100 to
190 voxels a side for patches of 128 and 160, that takes 0.5 to 0.8 of the time of PyTorch's trilinear interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

# Voxels of the planes that a slab resamples at once: 1 MB, which fits the cache of a core.
SLAB_VOXELS = 1 << 18


def resize(volume: Tensor, patch: Sequence[int], flips: Sequence[int] = ()) -> Tensor:
    """Resample (c, *any) to (c, *patch), linearly and corner to corner as scipy's zoom of order 1 does, and mirror it.

    Args:
        volume: float32; returned as it is where nothing has to be done.
        patch: the size to come out.
        flips: spatial axes along which the result is mirrored.
    """
    if tuple(volume.shape[1:]) == tuple(patch):
        return volume.flip([axis + 1 for axis in flips]) if flips else volume
    if volume.device.type == "cpu" and len(patch) == 3:
        return _resize_in_slabs(volume, patch, flips)
    mode = "trilinear" if len(patch) == 3 else "bilinear"
    resized = interpolate(volume[None], size=tuple(patch), mode=mode, align_corners=True)[0]
    return resized.flip([axis + 1 for axis in flips]) if flips else resized


def _resize_in_slabs(volume: Tensor, patch: Sequence[int], flips: Sequence[int]) -> Tensor:
    resized = volume.new_empty((len(volume), *patch))
    below, share = _planes_below(volume.shape[1], patch[0])
    if 0 in flips:
        below, share = below[::-1], share[::-1]
    in_plane = [axis for axis in flips if axis > 0]
    thickness = max(1, SLAB_VOXELS // (patch[1] * patch[2]))

    for first in range(0, patch[0], thickness):
        wanted = range(first, min(first + thickness, patch[0]))
        lower = [below[plane] for plane in wanted]
        start, stop = min(lower), min(max(lower) + 2, volume.shape[1])
        for source, target in zip(volume[:, None, start:stop], resized, strict=True):
            planes = interpolate(source, size=tuple(patch[1:]), mode="bilinear", align_corners=True)[0]
            planes = planes.flip(in_plane) if in_plane else planes
            for plane, low in zip(wanted, lower, strict=True):
                high = min(low + 1, stop - 1)
                torch.lerp(planes[low - start], planes[high - start], share[plane], out=target[plane])
    return resized


def _planes_below(planes: int, wanted: int) -> tuple[list[int], list[float]]:
    """Return for each wanted plane the one below it, and how near it is to the next, from 0 to 1."""
    position = np.linspace(0, planes - 1, wanted)
    below = np.minimum(position.astype(int), max(0, planes - 2))
    return below.tolist(), (position - below).tolist()
