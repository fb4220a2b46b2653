"""What a loader's worker hands over when the trainer's device makes the samples.

Drawing and applying are apart. A worker draws all that is random and reads the crops: `Sampler.collect`. What is left
is a pure function of that: `Sampler.make`, the same one wherever it runs, so that samples made by workers and samples
made on a device differ by rounding and in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Crops travel as float16 where that costs none of their channels more than this share of its range. A worker then needs
# 0.7 to 0.8 of the time that it needs with float32, and half of the shared memory (docs/benchmarks.md).
HALVING_ERROR = 2.0**-10

_LARGEST_HALF = 65504.0
_ROUNDING = 2.0**-11  # of a value, when it is written as float16
_SMALL_ROUNDING = 2.0**-25  # of any value, however small


@dataclass(frozen=True)
class Parcel:
    """What samples are made of."""

    crops: tuple[Tensor, ...]  # (c, *any) each, float32
    drawn: Any  # everything else, plain values
    samples: int = 1  # that are made of it


def pack(parcels: Sequence[Parcel]) -> dict[str, Any]:
    """Put parcels into one block of memory, which crosses to the trainer and to its device in one piece.

    A tensor for each crop would be an open file for each, and 2D batches of many small crops would run out of those.
    """
    crops = [crop for parcel in parcels for crop in parcel.crops]
    dtype = torch.float16 if all(fits_halves(crop) for crop in crops) else torch.float32
    voxels = torch.empty(sum(crop.numel() for crop in crops), dtype=dtype)
    start = 0
    for crop in crops:
        voxels[start : start + crop.numel()].view(crop.shape).copy_(crop)
        start += crop.numel()
    return {
        "voxels": voxels,
        "shapes": [[tuple(crop.shape) for crop in parcel.crops] for parcel in parcels],
        "drawn": [parcel.drawn for parcel in parcels],
        "samples": [parcel.samples for parcel in parcels],
    }


def unpack(packed: dict[str, Any], device: torch.device) -> Iterator[Parcel]:
    """Yield the parcels that were packed, with their crops on a device."""
    voxels = packed["voxels"].to(device, non_blocking=True)
    start = 0
    for shapes, drawn, samples in zip(packed["shapes"], packed["drawn"], packed["samples"], strict=True):
        crops = []
        for shape in shapes:
            crops.append(voxels[start : start + math.prod(shape)].view(shape).to(torch.float32))
            start += math.prod(shape)
        yield Parcel(tuple(crops), drawn, samples)


def fits_halves(crop: Tensor) -> bool:
    """Return whether float16 keeps every channel of a crop (c, *any) within `HALVING_ERROR` of its range.

    It does so for what nnU-Net's normalisations make. It does not for values that are huge, tiny, or far from 0 beside
    how much they differ, which images that are not normalised may hold.
    """
    for channel in crop:
        low, high = (float(value) for value in torch.aminmax(channel))
        largest = max(-low, high)
        if largest > _LARGEST_HALF or max(largest * _ROUNDING, _SMALL_ROUNDING) > (high - low) * HALVING_ERROR:
            return False
    return True
