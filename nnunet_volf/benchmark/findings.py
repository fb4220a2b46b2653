"""What the trainings of a benchmark say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_volf.benchmark.comparisons import MEAN, Comparison, Level
from nnunet_volf.benchmark.convergence import Convergence
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.label_efficiency import Worth
from nnunet_volf.benchmark.results import Failure, Outcome
from nnunet_volf.benchmark.statistics import Interval
from nnunet_volf.benchmark.verdict import Verdict

__all__ = ["MEAN", "Comparison", "Convergence", "Findings", "Interval", "Level", "Verdict", "Worth", "findings"]


@dataclass(frozen=True)
class Findings:
    """All that the report shows."""

    levels: tuple[Level, ...]
    comparisons: tuple[Comparison, ...]
    convergence: tuple[Convergence, ...]
    worth: tuple[Worth, ...]
    verdict: Verdict
    chosen_rates: Mapping[str, float]  # "arm/labels" -> the factor of the learning rate
    missing: tuple[str, ...]  # sentences on what failed or is not done yet


def findings(experiment: Experiment, outcomes: Sequence[Outcome], failures: Sequence[Failure]) -> Findings:
    """Compare all arms, also when only some of the trainings are done."""
    raise NotImplementedError
