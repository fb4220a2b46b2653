"""The grid that divides an image into blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

Block = tuple[slice, ...]


def default_grid(axes: int) -> tuple[int, ...]:
    """Return four blocks, as published: quarters of each slice, over all slices of a volume."""
    return (2, 2) if axes == 2 else (1, 2, 2)


def blocks_of(size: Sequence[int], grid: Sequence[int]) -> list[Block]:
    """Return the blocks of an image of this size, row by row; where a side does not divide, blocks differ by a voxel.

    Every voxel lies in exactly one block.
    """
    edges = (
        [round(number * side / cells) for number in range(cells + 1)] for side, cells in zip(size, grid, strict=True)
    )
    return list(product(*([slice(low, high) for low, high in pairwise(axis)] for axis in edges)))


def block_size(block: Block) -> tuple[int, ...]:
    """Return the number of voxels of a block along each axis."""
    return tuple(axis.stop - axis.start for axis in block)
