"""What the trainings of a benchmark say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nnunet_volf.benchmark.analysis.comparisons import Comparison, Level, compute_comparisons, compute_levels
from nnunet_volf.benchmark.analysis.convergence import Convergence, compute_convergence
from nnunet_volf.benchmark.analysis.label_efficiency import Worth, compute_worth
from nnunet_volf.benchmark.analysis.rates import at_rates, choose_rates
from nnunet_volf.benchmark.analysis.score_grid import MEAN, score_grid
from nnunet_volf.benchmark.analysis.statistics import Interval
from nnunet_volf.benchmark.analysis.verdict import Verdict, judge
from nnunet_volf.benchmark.analysis.wording import count
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import Failure, Outcome

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
    """Compare all arms, also when only some of the trainings are done; the order of the outcomes does not matter."""
    rates = choose_rates(outcomes)
    chosen = at_rates(outcomes, rates)
    grid = score_grid(chosen, tuple(experiment.classes.values()))
    levels, comparisons = compute_levels(experiment, grid), compute_comparisons(experiment, grid)
    convergence, worth = compute_convergence(experiment, chosen), compute_worth(levels)
    missing = describe_missing(experiment, outcomes, failures)
    verdict = judge(levels, comparisons, convergence, worth, grid.invented)
    return Findings(
        levels=levels,
        comparisons=comparisons,
        convergence=convergence,
        worth=worth,
        verdict=replace(verdict, details=(*verdict.details, *missing)),
        chosen_rates={f"{arm}/{labels}": rate for (arm, labels), rate in rates.items()},
        missing=missing,
    )


def describe_missing(
    experiment: Experiment, outcomes: Sequence[Outcome], failures: Sequence[Failure]
) -> tuple[str, ...]:
    """Say which trainings failed, and how many of which arm are not done yet."""
    done = {outcome.run for outcome in outcomes}
    failed = {failure.run: failure for failure in failures if failure.run not in done}
    runs = experiment.runs()
    sentences = []
    for run in runs:
        if run in failed:
            reason = failed[run].reason.rstrip(". ")
            sentences.append(f"The training {run.name} failed: {reason}. Its log is {failed[run].log}.")
    waiting = Counter(run.arm for run in runs if run not in done and run not in failed)
    if waiting:
        arms = ", ".join(f"{number} of {arm}" for arm, number in waiting.items())
        sentences.append(f"Not done yet: {waiting.total()} of {count(len(runs), 'training')} ({arms}).")
    return tuple(sentences)
