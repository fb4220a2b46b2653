"""Slow and literal versions of Volume Fusion's rules, for the tests to compare the library with.

Each follows the description of the published method rule by rule, in nested loops and double precision,
with a random generator of its own kind (Python's). Nothing here is taken from the library, and nothing here
knows it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

Array = NDArray[Any]
Ranges = Sequence[tuple[int, int]]


def voxels(shape: Sequence[int]) -> itertools.product[tuple[int, ...]]:
    """Every index of an array."""
    return itertools.product(*(range(side) for side in shape))


# --------------------------------------------------------------------------------- painting and mixing


def paint_grid(thickness: Sequence[Sequence[int]], classes: Array) -> Array:
    """A grid's map: rows of blocks follow each other along each axis; a block is of one class."""
    labels = np.full([sum(rows) for rows in thickness], 255, dtype=np.uint8)
    for block in voxels(classes.shape):
        corner = [sum(rows[:i]) for rows, i in zip(thickness, block, strict=True)]
        for step in voxels([rows[i] for rows, i in zip(thickness, block, strict=True)]):
            labels[tuple(c + s for c, s in zip(corner, step, strict=True))] = classes[block]
    return labels


def paint_boxes(patch: Sequence[int], boxes: Sequence[tuple[Sequence[int], Sequence[int], int]]) -> Array:
    """Boxes' map (2023): all background; each box is written over what is there, so later ones win."""
    labels = np.zeros(tuple(patch), dtype=np.uint8)
    for lower, upper, k in boxes:
        for voxel in voxels(patch):
            if all(low <= v < high for low, v, high in zip(lower, voxel, upper, strict=True)):
                labels[voxel] = k
    return labels


def fuse(background: Array, foreground: Array, labels: Array, coefficients: int) -> Array:
    """X = alpha * foreground + (1 - alpha) * background, with alpha = label / K, for all channels alike."""
    fused = np.zeros(background.shape, dtype=np.float64)
    for channel in range(len(background)):
        for voxel in voxels(labels.shape):
            alpha = int(labels[voxel]) / coefficients
            at = (channel, *voxel)
            fused[at] = alpha * float(foreground[at]) + (1 - alpha) * float(background[at])
    return fused


def fuse_shuffled(
    background: Array,
    foreground: Array,
    offset: Sequence[int],
    block: Sequence[int],
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...], int]],
    coefficients: int,
) -> Array:
    """Shuffle fusion: X[t] = (1 - k/K) background[t] + (k/K) foreground[s] for blocks t, s of class k.

    Blocks are whole, given by their place in the grid; voxels of no target block are background.
    """
    fused = background.astype(np.float64)
    for target, source, k in pairs:
        for step in voxels(block):
            t, s = (
                tuple(o + i * b + d for o, i, b, d in zip(offset, place, block, step, strict=True))
                for place in (target, source)
            )
            for channel in range(len(background)):
                back, front = float(background[(channel, *t)]), float(foreground[(channel, *s)])
                fused[(channel, *t)] = (1 - k / coefficients) * back + (k / coefficients) * front
    return fused


# ------------------------------------------------------------------------------ the drawing procedures


def draw_grid_2025(
    rng: random.Random, patch: Sequence[int], sizes: Ranges, ratio: float, coefficients: int
) -> tuple[Array, int]:
    """The block-wise map of 2025: return the label map and the number of whole blocks.

    One block size a sample, drawn per axis, both ends included. The offset is drawn from 0 to the remainder
    of side by block, both included; only whole blocks are placed. floor(blocks * ratio) of them are
    foreground: a list of zeros and ones is shuffled. Each foreground block draws its class from 1 to K. All
    else is background.
    """
    block = [rng.randint(low, high) for low, high in sizes]
    offset = [rng.randint(0, side % b) for side, b in zip(patch, block, strict=True)]
    counts = [side // b for side, b in zip(patch, block, strict=True)]
    total = 1
    for n in counts:
        total *= n
    chosen = int(total * ratio)
    mask = [1] * chosen + [0] * (total - chosen)
    rng.shuffle(mask)

    labels = np.zeros(tuple(patch), dtype=np.uint8)
    for place, is_foreground in zip(voxels(counts), mask, strict=True):
        if is_foreground:
            starts = [o + i * b for o, i, b in zip(offset, place, block, strict=True)]
            region = tuple(slice(a, a + b) for a, b in zip(starts, block, strict=True))
            labels[region] = rng.randint(1, coefficients)
    return labels, total


def draw_grid_covering(
    rng: random.Random, patch: Sequence[int], sizes: Ranges, ratio: float, coefficients: int
) -> tuple[Array, int]:
    """The grid without a rim: a voxel belongs to block (coordinate + offset) // block size.

    So the border cuts blocks. Return the label map and the number of blocks. All other rules are those of
    2025.
    """
    block = [rng.randint(low, high) for low, high in sizes]
    offset = [rng.randint(0, b - 1) for b in block]
    counts = [(side - 1 + o) // b + 1 for side, o, b in zip(patch, offset, block, strict=True)]
    places = list(voxels(counts))
    chosen = int(len(places) * ratio)
    mask = [1] * chosen + [0] * (len(places) - chosen)
    rng.shuffle(mask)
    class_of = {p: rng.randint(1, coefficients) if m else 0 for p, m in zip(places, mask, strict=True)}

    labels = np.zeros(tuple(patch), dtype=np.uint8)
    for voxel in voxels(patch):
        labels[voxel] = class_of[tuple((v + o) // b for v, o, b in zip(voxel, offset, block, strict=True))]
    return labels, len(places)


def draw_boxes_2023(
    rng: random.Random, patch: Sequence[int], sizes: Ranges, count: tuple[int, int], coefficients: int
) -> tuple[Array, int]:
    """The overlapping boxes of 2023: return the label map and the number of boxes.

    The number of boxes is drawn with both ends included. Each box has a size per axis, both ends included,
    a centre anywhere in the patch and a class from 1 to K; it is clipped at the border and overwrites what
    is there.
    """
    labels = np.zeros(tuple(patch), dtype=np.uint8)
    total = rng.randint(*count)
    for _ in range(total):
        size = [rng.randint(low, high) for low, high in sizes]
        centre = [rng.randint(0, side - 1) for side in patch]
        starts = [c - s // 2 for c, s in zip(centre, size, strict=True)]
        region = tuple(slice(max(0, a), min(side, a + s)) for a, s, side in zip(starts, size, patch, strict=True))
        labels[region] = rng.randint(1, coefficients)
    return labels, total


def shares(labels: Array, coefficients: int) -> list[float]:
    """The part of a map that each class 0 ... K covers, counted."""
    return [int((labels == k).sum()) / labels.size for k in range(coefficients + 1)]


def largest_gap(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest distance between two samples' distribution functions (Kolmogorov and Smirnov)."""
    a, b = sorted(first), sorted(second)
    return max(abs(sum(v <= x for v in a) / len(a) - sum(v <= x for v in b) / len(b)) for x in {*a, *b})


def gap_by_chance(first: int, second: int) -> float:
    """The gap that two samples of one distribution, of these sizes, exceed once in a thousand times."""
    return 1.95 * ((first + second) / (first * second)) ** 0.5


# ------------------------------------------------------------------------------------ the augmentation


def resize(volume: Array, patch: Sequence[int]) -> Array:
    """Each channel zoomed by order 1 to the patch, corner on corner.

    Outside counts as the nearest voxel: else the last corner, missed by a rounding error, would be read as 0.
    """
    channels = []
    for channel in volume.astype(np.float64):
        factors = [p / n for p, n in zip(patch, channel.shape, strict=True)]
        channels.append(zoom(channel, factors, order=1, mode="nearest", grid_mode=False))
    return np.stack(channels)


def contrast_map(image: Array, low: float, high: float) -> Array:
    """Map [min, v0] to [0, 0.1], [v0, v1] to [0.1, 0.9] and [v1, max] to [0.9, 1]; v0, v1 are percentiles."""
    values = sorted(float(v) for v in image.ravel())

    def percentile(percent: float) -> float:  # of the sorted values, linear between two ranks
        rank = percent / 100 * (len(values) - 1)
        below = int(rank)
        above = min(below + 1, len(values) - 1)
        return values[below] + (rank - below) * (values[above] - values[below])

    knots = [(values[0], 0.0), (percentile(low), 0.1), (percentile(high), 0.9), (values[-1], 1.0)]
    mapped = np.zeros(image.shape, dtype=np.float64)
    for voxel in voxels(image.shape):
        value = float(image[voxel])
        for (x0, y0), (x1, y1) in itertools.pairwise(knots):
            if x0 <= value <= x1:
                mapped[voxel] = y0 + (value - x0) / (x1 - x0) * (y1 - y0)
    return mapped


def gamma(image: Array, exponent: float) -> Array:
    """Scale to [0, 1], take to the power, scale back."""
    low, high = image.min(), image.max()
    changed = np.zeros(image.shape, dtype=np.float64)
    for voxel in voxels(image.shape):
        changed[voxel] = ((image[voxel] - low) / (high - low)) ** exponent * (high - low) + low
    return changed


def jitter(image: Array, low: float, high: float, exponent: float, invert: bool) -> Array:
    """Contrast, gamma, 1 - x where the coin says so; then the mean and spread that the image came with."""
    changed = gamma(contrast_map(image, low, high), exponent)
    if invert:
        changed = 1 - changed
    return (changed - changed.mean()) / changed.std() * image.std() + image.mean()
