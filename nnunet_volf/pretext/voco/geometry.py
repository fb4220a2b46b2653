"""Where base and target crops of a region lie, and how much of each target lies in each base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor

Start = tuple[int, ...]


@dataclass(frozen=True)
class Region:
    """A box that a grid of base crops fills; a target crop is as large as a base and lies anywhere in the box."""

    grid: tuple[int, ...]  # bases along each axis
    crop: tuple[int, ...]  # voxels along each axis

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(number * side for number, side in zip(self.grid, self.crop, strict=True))

    @property
    def bases(self) -> list[Start]:
        """Where the base crops start, those along the last axis beside each other."""
        cells = product(*(range(number) for number in self.grid))
        return [tuple(i * side for i, side in zip(cell, self.crop, strict=True)) for cell in cells]

    def cut(self, volume: Tensor, start: Start) -> Tensor:
        """Return the crop of a volume (c, *size) that starts there."""
        box = (slice(None), *(slice(a, a + side) for a, side in zip(start, self.crop, strict=True)))
        return volume[box]


def draw_starts(rng: np.random.Generator, region: Region, targets: int) -> list[Start]:
    """Draw where target crops start: anywhere in the region, evenly, to the voxel."""
    ends = [size - side for size, side in zip(region.size, region.crop, strict=True)]
    return [tuple(int(rng.integers(end, endpoint=True)) for end in ends) for _ in range(targets)]


def overlaps(region: Region, starts: Sequence[Start]) -> Tensor:
    """Return the share of each target that lies in each base (targets, bases); rows sum to 1."""
    rows = [[_shared(start, base, region.crop) for base in region.bases] for start in starts]
    return torch.tensor(rows, dtype=torch.float32)


def _shared(first: Start, second: Start, crop: Sequence[int]) -> float:
    """Return which share of a crop is common to two that start here and there."""
    sides = zip(first, second, crop, strict=True)
    return prod(max(0, side - abs(a - b)) for a, b, side in sides) / prod(crop)
