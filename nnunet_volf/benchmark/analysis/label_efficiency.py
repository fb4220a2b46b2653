"""What pretraining is worth in labels: how many labelled cases scratch needs for the same Dice.

Between two numbers of labels that were measured, scratch's mean Dice is taken to be linear in the logarithm of the
number. Where it falls with more labels, the first number that reaches the arm's Dice counts. Beyond what was measured
nothing is guessed: there is only a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from nnunet_volf.benchmark.analysis.comparisons import Level
from nnunet_volf.benchmark.analysis.score_grid import MEAN
from nnunet_volf.benchmark.arms import SCRATCH


@dataclass(frozen=True)
class Worth:
    """An arm with so many labels is as good as scratch with so many; ``more than`` and ``fewer than`` are bounds."""

    arm: str
    labels: int
    scratch_labels: float | None
    bound: Literal["", "more than", "fewer than"]


def compute_worth(levels: Sequence[Level]) -> tuple[Worth, ...]:
    """Return for each arm and number of labels how many labels scratch needs for the same mean Dice."""
    dice = [level for level in levels if (level.metric, level.label) == ("dice", MEAN)]
    scratch = {level.labels: level.mean.value for level in dice if level.arm == SCRATCH}
    return tuple(
        Worth(level.arm, level.labels, *labels_needed(scratch, level.mean.value))
        for level in dice
        if level.arm != SCRATCH
    )


def labels_needed(
    scratch: Mapping[int, float], dice: float
) -> tuple[float | None, Literal["", "more than", "fewer than"]]:
    """Return how many labels reach this Dice by the Dice of each number of labels; None where nothing is measured."""
    measured = sorted(scratch.items())
    if not measured:
        return None, ""
    fewest, lowest = measured[0]
    if dice <= lowest:
        return float(fewest), "" if dice == lowest else "fewer than"
    for (fewer, before), (more, after) in pairwise(measured):
        if before < dice <= after:
            share = (dice - before) / (after - before)
            return min(fewer * (more / fewer) ** share, float(more)), ""  # linear in the logarithm, and never outside
    return float(measured[-1][0]), "more than"
