"""How much of a patch each fusion class covers, computed exactly, and whether the pretext task can be learnt at all.

Fusing (a, b, alpha) gives the same image as fusing (b, a, 1 - alpha). Which of two volumes is the background, and with
it whether a voxel belongs to class k or to class K - k, can be told only because the background is seen most, or
because the foreground stands on its head (`turned`). Settings under which neither holds are refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.volf.fusion import box_counts, draw_layout, paint, size_ranges
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.randomness import sample_rng

# The background's expected share over that of a fusion class. With K = 4, blocks everywhere and 70 % of them fused, the
# ratio is 1.7 and the background is the larger in all but 0.1 % of samples; at 80 % it is 1.0 and that is a coin toss.
BACKGROUND_MARGIN = 1.5

# With fewer blocks than this for each class, classes are missing from many samples.
BLOCKS_PER_CLASS = 2

# Label maps that are drawn to show how far they are from what is expected; painting them reads no data.
_MAPS = 64


def class_shares(patch: Sequence[int], settings: VolFSettings) -> NDArray[np.float64]:
    """Return the expected share of a patch that each class 0 ... K covers; they add up to one."""
    fused = _boxes_share(patch, settings) if settings.scheme == "boxes" else _grid_share(patch, settings)
    classes = settings.coefficients
    return np.array([1 - fused, *[fused / classes] * classes])


def describe_shares(patch: Sequence[int], settings: VolFSettings, seed: int) -> list[str]:
    """Return a table of the shares that are expected, and of those in some maps."""
    classes = settings.coefficients + 1
    maps = (paint(draw_layout(sample_rng(seed, i), patch, settings), patch) for i in range(_MAPS))
    drawn = np.array([np.bincount(map_.ravel(), minlength=classes) for map_ in maps]) / math.prod(patch)
    lines = [
        f"patch {tuple(patch)}, {settings.scheme} maps, {_MAPS} drawn",
        f"{'class':>5} {'coefficient':>11} {'expected':>9} {'drawn':>7} {'smallest':>9} {'largest':>8}",
    ]
    for k, expected in enumerate(class_shares(patch, settings)):
        share = drawn[:, k]
        lines.append(
            f"{k:5} {f'{k}/{settings.coefficients}':>11} {expected:9.1%} {share.mean():7.1%} {share.min():9.1%} "
            f"{share.max():8.1%}"
        )
    majority = np.mean(drawn[:, 0] > drawn[:, 1:].max(axis=1))
    return [*lines, f"background is the largest class in {majority:.0%} of the maps"]


def check_fusion(patch: Sequence[int], settings: VolFSettings) -> None:
    """Refuse settings that give too few blocks for this patch, or that lose the background's majority."""
    if settings.size_voxels is not None and len(settings.size_voxels) < len(patch):
        raise SettingsError(
            f"size_voxels holds {len(settings.size_voxels)} ranges and the patch {tuple(patch)} has {len(patch)} axes. "
            "Give one [smallest, largest] pair for each axis, or size_fraction instead."
        )
    if settings.scheme != "boxes":
        _check_block_count(patch, settings)
    if settings.turned:
        return
    shares = class_shares(patch, settings)
    if shares[0] < BACKGROUND_MARGIN * shares[1]:
        raise SettingsError(
            f"With these settings a patch of {tuple(patch)} is {shares[0]:.0%} background and {shares[1]:.0%} for each "
            f"of the {settings.coefficients} fusion classes. Fusing (a, b, alpha) looks the same as fusing "
            "(b, a, 1 - alpha), so class k and class K - k can be told apart only because the background is the volume "
            f"seen most: it needs {BACKGROUND_MARGIN} times the share of a class. {_remedy(patch, settings)} With "
            "turned=true, how the volumes stand tells them apart instead."
        )


def _remedy(patch: Sequence[int], settings: VolFSettings) -> str:
    if settings.scheme == "boxes":
        counts = list(box_counts(patch, settings))
        return f"Draw fewer boxes (boxes is {counts}) or smaller ones (size_fraction or size_voxels)."
    most = math.floor(100 / (1 + BACKGROUND_MARGIN / settings.coefficients)) / 100
    return f"foreground_ratio is {settings.foreground_ratio:g}: set it to {most:g} or less."


def _check_block_count(patch: Sequence[int], settings: VolFSettings) -> None:
    largest = [high for _, high in size_ranges(patch, settings)]
    fewest = math.prod(side // high for side, high in zip(patch, largest, strict=True))
    needed = BLOCKS_PER_CLASS * (settings.coefficients + 1)
    if fewest < needed:
        raise SettingsError(
            f"Blocks of up to {tuple(largest)} voxels leave {fewest} whole block(s) in a patch of {tuple(patch)}, and "
            f"{settings.coefficients + 1} classes need at least {needed}. Allow smaller blocks only: lower "
            "size_fraction, or remove size_voxels (or the preset that sets it)."
        )


def _grid_share(patch: Sequence[int], settings: VolFSettings) -> float:
    """Enumerate every block size and offset; axes are independent, so outcomes multiply."""
    full_cover = settings.full_cover and settings.scheme == "grid"
    axes = [
        _axis_outcomes(side, low, high, full_cover)
        for side, (low, high) in zip(patch, size_ranges(patch, settings), strict=True)
    ]
    blocks, weights = (reduce(np.multiply.outer, column) for column in zip(*axes, strict=True))
    fused = np.floor(blocks * settings.foreground_ratio) / np.maximum(blocks, 1)
    return float((weights * fused).sum())


def _axis_outcomes(side: int, low: int, high: int, full_cover: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the possible numbers of blocks along an axis, each with probability times covered length / length."""
    outcomes: dict[int, float] = defaultdict(float)
    sizes = range(low, high + 1)
    for block in sizes:
        if full_cover:
            for offset in range(block):
                outcomes[-(-(side + offset) // block)] += 1 / (len(sizes) * block)
        else:
            outcomes[side // block] += (side // block) * block / side / len(sizes)
    return np.array(list(outcomes)), np.array(list(outcomes.values()))


def _boxes_share(patch: Sequence[int], settings: VolFSettings) -> float:
    """Chance that at least one of M boxes covers a voxel, averaged over the patch and over M."""
    axes = [_axis_cover(side, low, high) for side, (low, high) in zip(patch, size_ranges(patch, settings), strict=True)]
    missed = 1 - reduce(np.multiply.outer, axes)
    low, high = box_counts(patch, settings)
    uncovered = np.mean([float((missed**count).mean()) for count in range(low, high + 1)])
    return float(1 - uncovered)


def _axis_cover(side: int, low: int, high: int) -> NDArray[np.float64]:
    """Return, for each coordinate of an axis, the chance that one box covers it."""
    covered = np.zeros(side + 1)
    centres = np.arange(side)
    for size in range(low, high + 1):
        start = centres - size // 2
        np.add.at(covered, start.clip(min=0), 1)
        np.add.at(covered, np.minimum(start + size, side), -1)
    return np.cumsum(covered[:-1]) / (side * (high - low + 1))
