"""How good each arm is, and by how much it differs from training from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.benchmark.statistics import Interval

MEAN = "mean"  # in place of a class: the mean of the classes of a case


@dataclass(frozen=True)
class Level:
    """An arm's mean over the test cases, each case first averaged over the seeds."""

    arm: str
    labels: int
    metric: str
    label: str  # the name of a class, or MEAN
    mean: Interval
    per_seed: tuple[float, ...]
    per_case: Mapping[str, float]
    left_out: int  # pairs of a case and a class without a value


@dataclass(frozen=True)
class Comparison:
    """An arm minus its reference, in the unit of the metric, on the same cases and seeds."""

    arm: str
    labels: int
    metric: str
    label: str
    difference: Interval
    per_seed: tuple[float, ...]
    per_case: Mapping[str, float]
    better: int  # cases, by what is better in this metric
    worse: int
    equal: int
    p: float | None
    p_holm: float | None
    verdict: Literal["better", "worse", "unclear"]
    reference: str = SCRATCH
