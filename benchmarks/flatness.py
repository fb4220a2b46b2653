"""Does a series of measurements grow, and go on growing? Peaks, saw-teeth and a single step are none of that."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

# Of the level, in the time that was watched. The allocator keeps what it once had, and caches fill.
TOLERANCE = 0.02

_SPANS = 12  # that the time is cut into; whatever saws faster than that shows in their floors alone
_FLOOR = 20  # percentile: the level that a span comes back to


@dataclass(frozen=True)
class Flatness:
    """What became of a series after its warm-up."""

    level: float  # the median
    highest: float
    growth: float  # over the time that was watched
    hourly: float  # the same, by the hour
    flat: bool


def judge(seconds: Sequence[float], values: Sequence[float], warm_up: float = 0.0, floor: float = 0.0) -> Flatness:
    """Say whether values grow after a warm-up: as a whole, and within the first half and the second.

    A step, such as memory that is taken once and kept, is in one of the halves only.

    Args:
        seconds: when each was measured, in order.
        values: what was measured.
        warm_up: seconds from the first sample that do not count.
        floor: growth that is none, in units of the values, however small the level is.
    """
    kept = [(at, value) for at, value in zip(seconds, values, strict=True) if at - seconds[0] >= warm_up]
    if len(kept) < _SPANS:
        raise ValueError(f"{len(kept)} samples after {warm_up:g} s of warm-up say nothing; {_SPANS} are needed.")
    series = [value for _, value in kept]
    floors = [float(np.percentile(span, _FLOOR)) for span in np.array_split(np.array(series, dtype=float), _SPANS)]
    level, growth = statistics.median(series), _growth(floors)
    tolerated = max(TOLERANCE * abs(level), floor)
    halves = (floors[: _SPANS // 2], floors[_SPANS // 2 :])
    flat = growth <= tolerated or any(_growth(half) <= tolerated / 2 for half in halves)
    return Flatness(level, max(series), growth, growth * 3600 / (kept[-1][0] - kept[0][0]), flat)


def _growth(levels: Sequence[float]) -> float:
    """Return how much levels grow from the first to the last, by the median slope over all pairs (Theil and Sen)."""
    slopes = [(levels[b] - levels[a]) / (b - a) for a, b in combinations(range(len(levels)), 2)]
    return statistics.median(slopes) * (len(levels) - 1)
