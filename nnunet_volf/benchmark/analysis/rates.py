"""Which learning rate each arm is judged with. Chosen on the validation cases; the test cases have no say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from nnunet_volf.benchmark.analysis.convergence import final_value
from nnunet_volf.benchmark.results import Outcome

# Validation Dice of one factor, by seed and fold.
Validated = Mapping[tuple[int, int], float]


def choose_rates(outcomes: Sequence[Outcome]) -> dict[tuple[str, int], float]:
    """Return for each arm and number of labels the factor of the learning rate with the best validation Dice."""
    validated: dict[tuple[str, int], dict[float, dict[tuple[int, int], float]]] = {}
    for outcome in outcomes:
        run = outcome.run
        end = final_value(outcome.curve) if outcome.curve else 0.0
        validated.setdefault((run.arm, run.labels), {}).setdefault(run.rate, {})[run.seed, run.fold] = end
    return {key: _best(by_rate) for key, by_rate in sorted(validated.items())}


def at_rates(outcomes: Sequence[Outcome], rates: Mapping[tuple[str, int], float]) -> list[Outcome]:
    """Return the outcomes of each arm and number of labels that have the rate chosen for them."""
    return [outcome for outcome in outcomes if outcome.run.rate == rates[outcome.run.arm, outcome.run.labels]]


def _best(by_rate: Mapping[float, Validated]) -> float:
    """Compare the factors on the seeds and folds that all have; of equals, take the one closest to 1."""
    shared = set.intersection(*(set(validated) for validated in by_rate.values()))

    def preference(rate: float) -> tuple[float, float, float]:
        values = by_rate[rate]
        return fmean(values[key] for key in sorted(shared or values)), -abs(rate - 1), -rate

    return max(by_rate, key=preference)
