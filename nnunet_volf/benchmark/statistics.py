"""How sure a mean is, when the same cases are segmented by trainings that differ by chance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; with a single case there is none, and all three are the same."""

    value: float
    low: float
    high: float
