"""What preprocessing a case takes, estimated from its shape: memory, disk, and how much of them there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_volf.machine import available_memory

# Bytes a voxel before and after resampling, above what a worker has anyway. Measured as peak resident memory with
# 200^3 voxels, doubled and halved in size, int16 and float32, and rounded up: our splines 10 and 10, nnU-Net's 36
# and 9, torch 8 and 4, without resampling 8 to 12. A mask takes at most 11 and 17 more.
_SPLINES = (12, 12)
_TORCH_OR_NONE = (14, 10)
_OTHERS = (40, 14)
_MASK = (12, 18)
# A worker shares the loaded libraries with its siblings only where it is forked; this covers what it changes in them.
_WORKER_BYTES = 250 * 1024**2

_NNUNETS = "resample_data_or_seg_to_shape"

SHARE_OF_MEMORY = 0.8  # the rest is for the page cache, and for what the estimate misses


def target_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Return the shape after resampling, as nnU-Net computes it, of an image of which nothing is cropped."""
    target = [*spacing[: len(spacing) - len(target)], *target]  # 2d leaves the distance of slices alone
    return tuple(round(own / wanted * n) for own, wanted, n in zip(spacing, target, shape, strict=True))


def memory_needed(shape: Sequence[int], target: Sequence[int], channels: int, configuration: Mapping[str, Any]) -> int:
    """Return the bytes that a worker needs for a case of this shape."""
    resampling = configuration["resampling_fn_data"]
    if tuple(shape) == tuple(target) or "torch" in resampling:
        before, after = _TORCH_OR_NONE
    else:
        before, after = _SPLINES if resampling == _NNUNETS else _OTHERS
    if any(configuration["use_mask_for_norm"]):
        before, after = before + _MASK[0], after + _MASK[1]
    return _WORKER_BYTES + channels * (before * math.prod(shape) + after * math.prod(target))


def disk_needed(target: Sequence[int], channels: int, dtype: str, masked: bool) -> int:
    """Return the bytes that a case takes on disk at most: as if nothing could be compressed."""
    return math.prod(target) * (channels * np.dtype(dtype).itemsize + (1 if masked else 0))


def gigabytes(size: float) -> str:
    """Return a number of bytes as it is told."""
    return f"{size / 1e9:.1f} GB"


def memory_to_use() -> int | None:
    """Return the bytes that workers may use together, or None where the system does not tell."""
    free = available_memory()
    return None if free is None else int(SHARE_OF_MEMORY * free)
