"""What pretraining is worth in labels: how many labelled cases scratch needs for the same Dice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Worth:
    """An arm with so many labels is as good as scratch with so many; ``more than`` and ``fewer than`` are bounds."""

    arm: str
    labels: int
    scratch_labels: float | None
    bound: Literal["", "more than", "fewer than"]
