"""What preprocessing a case takes, estimated from its shape: memory, disk, and how much of them there is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_volf.machine import available_memory

# Bytes a voxel before and after resampling, above what a worker has anyway. Measured as peak resident memory with
# 200^3 voxels, doubled and halved in size, int16 and float32, and rounded up: splines 36 and 9 (nnU-Net's work in
# float64), with a mask 8 more; torch 8 and 4; without resampling 8 to 12. Writing adds a copy of the result.
_SPLINES = (40, 14)
_LIGHT = (14, 10)
_MASK = 8
# A worker shares the loaded libraries with its siblings only where it is forked; this covers what it changes in them.
_WORKER_BYTES = 250 * 1024**2

SHARE_OF_MEMORY = 0.8  # the rest is for the page cache, and for what the estimate misses


def target_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Return the shape after resampling, as nnU-Net computes it, of an image of which nothing is cropped."""
    target = [*spacing[: len(spacing) - len(target)], *target]  # 2d leaves the distance of slices alone
    return tuple(round(own / wanted * n) for own, wanted, n in zip(spacing, target, shape, strict=True))


def memory_needed(shape: Sequence[int], target: Sequence[int], channels: int, configuration: Mapping[str, Any]) -> int:
    """Return the bytes that a worker needs for a case of this shape."""
    light = tuple(shape) == tuple(target) or "torch" in configuration["resampling_fn_data"]
    before, after = _LIGHT if light else _SPLINES
    before += _MASK if any(configuration["use_mask_for_norm"]) else 0
    return _WORKER_BYTES + channels * (before * math.prod(shape) + after * math.prod(target))


def disk_needed(target: Sequence[int], channels: int, dtype: str, masked: bool) -> int:
    """Return the bytes that a case takes on disk at most: as if nothing could be compressed."""
    return math.prod(target) * (channels * np.dtype(dtype).itemsize + (1 if masked else 0))


def memory_to_use() -> int | None:
    """Return the bytes that workers may use together, or None where the system does not tell."""
    free = available_memory()
    return None if free is None else int(SHARE_OF_MEMORY * free)
