"""Slow and literal versions of SLeM's rules, for the tests to compare the library with; nothing here knows it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Code = tuple[int, ...]


def all_codes(channels: int, blocks: int, mode: str, assignment: str, shuffle: bool) -> list[Code]:
    """Every code there is, spelt out: what each block shows, and where that comes from."""
    orders = math.factorial(channels) if mode == "permutation" else channels
    assigned = (
        itertools.permutations(range(channels))
        if assignment == "permutation"
        else itertools.product(range(orders), repeat=blocks)
    )
    if not shuffle:
        return list(assigned)
    found = []
    for places, code in itertools.product(itertools.permutations(range(blocks)), list(assigned)):
        found.append(tuple(place * orders + order for place, order in zip(places, code, strict=True)))
    return found


def hamming(a: Code, b: Code) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def farthest_first(among: Sequence[Code], number: int) -> list[Code]:
    """Start with the first; add the one whose nearest of those chosen is farthest, the earliest of equals."""
    chosen = [among[0]]
    while len(chosen) < number:
        best, best_distance = None, -1
        for code in among:
            distance = min(hamming(code, other) for other in chosen)
            if distance > best_distance:
                best, best_distance = code, distance
        assert best is not None
        chosen.append(best)
    return chosen


def block_number(voxel: Sequence[int], size: Sequence[int], grid: Sequence[int]) -> int:
    """The block that a voxel lies in, row by row, borders at round(i * size / g)."""
    number = 0
    for at, side, cells in zip(voxel, size, grid, strict=True):
        inside = [i for i in range(cells) if round(i * side / cells) <= at < round((i + 1) * side / cells)]
        assert len(inside) == 1, "a voxel lies in one block"
        number = number * cells + inside[0]
    return number


def unmix_cyclic(recombined: Array, grid: Sequence[int], code: Code) -> Array:
    """Put each channel back: in block b channel (c + s_b) mod C had been shown as channel c."""
    channels, *size = recombined.shape
    image = np.full_like(recombined, np.nan)
    for voxel in itertools.product(*map(range, size)):
        shift = code[block_number(voxel, size, grid)]
        for channel in range(channels):
            image[((channel + shift) % channels, *voxel)] = recombined[(channel, *voxel)]
    return image


def unmix_permutation(recombined: Array, grid: Sequence[int], code: Code) -> Array:
    """Put each channel back: a block's number is that of a permutation, in lexicographic order."""
    channels, *size = recombined.shape
    orders = list(itertools.permutations(range(channels)))
    image = np.full_like(recombined, np.nan)
    for voxel in itertools.product(*map(range, size)):
        order = orders[code[block_number(voxel, size, grid)]]
        for channel in range(channels):
            image[(order[channel], *voxel)] = recombined[(channel, *voxel)]
    return image


def known_cross_entropy(logits: Array, target: Array) -> float:
    """The mean of -log of the probability of the right answer, over the answers that are not -1."""
    losses = []
    for sample in range(target.shape[0]):
        for answer in range(target.shape[1]):
            true = int(target[sample, answer])
            if true == -1:
                continue
            odds = [math.exp(float(value)) for value in logits[sample, answer]]
            losses.append(-math.log(odds[true] / sum(odds)))
    return sum(losses) / len(losses) if losses else 0.0
