"""Volume Fusion: draw a map of classes, mix two volumes by it, and let the network find the map.

    X = alpha * foreground + (1 - alpha) * background,   Y = K * alpha,   alpha in {0, 1/K ... 1}

Drawing and painting are apart: `draw_layout` holds all the randomness and returns plain values; `paint` and `fuse` are
pure functions of them. Everything works in 2D and 3D. Label maps are uint8, 0 is background (alpha = 0).

`grid` is the block-wise map of the 2025 publication, `boxes` the overlapping boxes of 2023, and `shuffle` the grid with
the foreground's blocks taken from other places (PyMIC's `VolumeFusionShuffle`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunet_volf.pretext.volf.settings import VolFSettings

# Side of a block or box as a share of the patch axis. Grid: 8 to 32 voxels of 128, the code default of 2025. Boxes: 8
# to 80 voxels of 128, the in-plane sizes of 2023.
SCHEME_SIZES = {"grid": (1 / 16, 1 / 4), "shuffle": (1 / 16, 1 / 4), "boxes": (1 / 16, 5 / 8)}

# How many boxes are drawn, by the number of axes: the 10 to 40 of 2023, and in 2D, where boxes of the same sides cover
# more of a patch, as many as leave it the same share of background.
BOX_COUNTS = {2: (4, 14), 3: (10, 40)}

# Voxels that are mixed at once on a CPU: 256 kB of coefficients, which never leave its cache. Measured: 0.8 of the time
# of the whole volume at once.
SLAB_VOXELS = 1 << 16

LabelMap: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Grid:
    """A patch cut into rows of blocks along each axis."""

    runs: tuple[NDArray[np.int64], ...]  # per axis, the thickness of each row of blocks; they add up to the patch
    classes: LabelMap  # one class a block


@dataclass(frozen=True)
class Boxes:
    """Boxes painted in their order, so that a later one covers an earlier one."""

    lower: NDArray[np.int64]  # (boxes, axes), inside the patch
    upper: NDArray[np.int64]  # exclusive
    classes: LabelMap  # (boxes,)


@dataclass(frozen=True)
class Shuffle:
    """A grid whose fused blocks show the foreground's content from another block."""

    grid: Grid  # of whole blocks, with a rim of background
    source: NDArray[np.int64]  # per whole block, the block of the foreground it shows


Layout: TypeAlias = Grid | Boxes | Shuffle


def volume_fusion(background: Tensor, foreground: Tensor, layout: Layout, coefficients: int) -> tuple[Tensor, Tensor]:
    """Fuse two volumes (c, *patch) by a drawn layout; return the image (c, *patch) and the label map (1, *patch)."""
    labels = torch.from_numpy(paint(layout, tuple(background.shape[1:]))).to(background.device)
    if isinstance(layout, Shuffle):
        foreground = move_blocks(foreground, layout)
    return fuse(background, foreground, labels, coefficients), labels[None]


def fuse(background: Tensor, foreground: Tensor, labels: Tensor, coefficients: int) -> Tensor:
    """Mix (c, *patch) volumes by a label map (*patch) that all channels share; float32 in, float32 out."""
    fused = torch.empty_like(background)
    thickness = max(1, SLAB_VOXELS // labels[0].numel()) if labels.device.type == "cpu" else len(labels)
    volumes = (torch.split(volume, thickness, dim=1) for volume in (background, foreground, fused))
    for back, front, mixed, part in zip(*volumes, torch.split(labels, thickness), strict=True):
        alpha = part.to(torch.float32).mul_(1.0 / coefficients)
        torch.lerp(back, front, alpha[None], out=mixed)
    return fused


def draw_layout(rng: np.random.Generator, patch: Sequence[int], settings: VolFSettings) -> Layout:
    """Draw everything that is random about one label map."""
    if settings.scheme == "boxes":
        return _draw_boxes(rng, patch, settings)
    if settings.scheme == "shuffle":
        grid = _draw_grid(rng, patch, settings, full_cover=False)
        blocks = grid.classes[(slice(1, -1),) * len(patch)].size
        return Shuffle(grid, rng.permutation(blocks))
    return _draw_grid(rng, patch, settings, full_cover=settings.full_cover)


def paint(layout: Layout, patch: Sequence[int]) -> LabelMap:
    """Return the label map (*patch) of a layout."""
    if isinstance(layout, Shuffle):
        layout = layout.grid
    if isinstance(layout, Grid):
        labels = layout.classes
        for axis in reversed(range(len(patch))):  # the first axis last: it copies whole planes
            labels = np.repeat(labels, layout.runs[axis], axis=axis)
        return labels
    labels = np.zeros(tuple(patch), dtype=np.uint8)
    for lower, upper, k in zip(layout.lower, layout.upper, layout.classes, strict=True):
        labels[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))] = k
    return labels


def move_blocks(volume: Tensor, layout: Shuffle) -> Tensor:
    """Return a copy of a volume (c, *patch) in which each whole block shows the content of its source block."""
    runs = layout.grid.runs
    axes = len(runs)
    inside = (slice(None), *(slice(int(r[0]), int(r[:-1].sum())) for r in runs))
    counts = [len(r) - 2 for r in runs]  # the first and last run are the rim
    shape = [len(volume), *(int(v) for n, r in zip(counts, runs, strict=True) for v in (n, r[1]))]
    order = [*range(1, 2 * axes, 2), 0, *range(2, 2 * axes + 1, 2)]  # block indices, channel, voxels in the block

    blocks = volume[inside].reshape(shape).permute(order)
    moved = blocks.flatten(0, axes - 1)[torch.from_numpy(layout.source).to(volume.device)].reshape(blocks.shape)
    result = volume.clone()
    result[inside] = moved.permute(np.argsort(order).tolist()).reshape(result[inside].shape)
    return result


def size_ranges(patch: Sequence[int], settings: VolFSettings) -> tuple[tuple[int, int], ...]:
    """Return the smallest and largest side of a block or box, in voxels, for each axis of a patch."""
    if settings.size_voxels is not None:
        exact = settings.size_voxels[-len(patch) :]
        return tuple((min(low, side), min(high, side)) for (low, high), side in zip(exact, patch, strict=True))
    small, large = settings.size_fraction or SCHEME_SIZES[settings.scheme]
    ranges = []
    for side in patch:
        # nnU-Net's patches are about as long in millimetres along every axis, so a short axis has thick voxels and its
        # minimum shrinks with it; below two voxels a block would be an edge and nothing else.
        minimum = max(2, round(settings.size_minimum * side / max(patch)))
        low = min(side, max(minimum, math.floor(small * side)))
        ranges.append((low, min(side, max(low, math.floor(large * side)))))
    return tuple(ranges)


def box_counts(patch: Sequence[int], settings: VolFSettings) -> tuple[int, int]:
    """Return the smallest and largest number of boxes in a patch."""
    return settings.boxes or BOX_COUNTS[len(patch)]


def _draw_sizes(rng: np.random.Generator, patch: Sequence[int], settings: VolFSettings) -> list[int]:
    return [int(rng.integers(low, high, endpoint=True)) for low, high in size_ranges(patch, settings)]


def _draw_grid(rng: np.random.Generator, patch: Sequence[int], settings: VolFSettings, full_cover: bool) -> Grid:
    runs = []
    for side, block in zip(patch, _draw_sizes(rng, patch, settings), strict=True):
        if full_cover:  # blocks continue beyond the patch and are cut by it
            offset = int(rng.integers(0, block))
            edges = np.arange(-offset, side, block).clip(min=0)
            runs.append(np.diff(edges, append=side))
        else:  # whole blocks only; the rim around them stays background
            offset = int(rng.integers(0, side % block, endpoint=True))
            whole = side // block
            runs.append(np.array([offset, *[block] * whole, side - offset - whole * block]))
    rim = 0 if full_cover else 1
    counts = tuple(len(r) - 2 * rim for r in runs)
    classes = _draw_classes(rng, math.prod(counts), settings).reshape(counts)
    return Grid(tuple(runs), np.pad(classes, rim))


def _draw_classes(rng: np.random.Generator, blocks: int, settings: VolFSettings) -> LabelMap:
    """Fuse an exact share of the blocks, at random places, each with a random class."""
    fused = int(blocks * settings.foreground_ratio)
    classes = np.zeros(blocks, dtype=np.uint8)
    classes[rng.permutation(blocks)[:fused]] = rng.integers(1, settings.coefficients, size=fused, endpoint=True)
    return classes


def _draw_boxes(rng: np.random.Generator, patch: Sequence[int], settings: VolFSettings) -> Boxes:
    low, high = box_counts(patch, settings)
    count = int(rng.integers(low, high, endpoint=True))
    ranges = np.array(size_ranges(patch, settings))
    sizes = rng.integers(ranges[:, 0], ranges[:, 1], size=(count, len(patch)), endpoint=True)
    centres = rng.integers(0, patch, size=(count, len(patch)))
    start = centres - sizes // 2
    return Boxes(
        lower=start.clip(min=0),
        upper=np.minimum(start + sizes, np.array(patch)),
        classes=rng.integers(1, settings.coefficients, size=count, endpoint=True, dtype=np.uint8),
    )
