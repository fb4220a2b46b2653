"""How good each arm is, and by how much it differs from training from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from nnunet_volf.benchmark.analysis.crossed_bootstrap import Floats, per_case
from nnunet_volf.benchmark.analysis.score_grid import MEAN, ScoreGrid
from nnunet_volf.benchmark.analysis.statistics import SAME, Interval, holm, mean_interval, signed_rank_p
from nnunet_volf.benchmark.arms import ENCODER, SCRATCH
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import METRICS
from nnunet_volf.pretext.catalogue import METHODS

BOUNDS = {"dice": (0.0, 1.0), "nsd": (0.0, 1.0), "hd95": (0.0, np.inf), "assd": (0.0, np.inf)}


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
    """An arm minus its reference, in the unit of the metric, on the cases and seeds that both have."""

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


def compute_levels(experiment: Experiment, grid: ScoreGrid) -> tuple[Level, ...]:
    """Return how good each arm is, in every metric, for each class and their mean."""
    levels = []
    for labels, arm, (metric, label) in product(experiment.labels, experiment.arms, _measures(grid)):
        known = _known(grid.table(arm.name, labels, metric, label))
        if known is None:
            continue
        values, cases = known
        levels.append(
            Level(
                arm=arm.name,
                labels=labels,
                metric=metric,
                label=label,
                mean=mean_interval(values, BOUNDS[metric]),
                per_seed=_per_seed(values),
                per_case=_named(values, grid, cases),
                left_out=grid.left_out(arm.name, labels, metric, label),
            )
        )
    return tuple(levels)


def compute_comparisons(experiment: Experiment, grid: ScoreGrid) -> tuple[Comparison, ...]:
    """Compare all pairs of arms that are worth it, wherever both share two test cases and a seed."""
    pairs = [*_with_scratch(experiment), *_with_encoder(experiment), *_between_methods(experiment)]
    found = (
        compare(grid, arm, reference, labels, metric, label)
        for labels, (arm, reference), (metric, label) in product(experiment.labels, pairs, _measures(grid))
    )
    return _corrected([comparison for comparison in found if comparison is not None])


def _with_scratch(experiment: Experiment) -> Iterable[tuple[str, str]]:
    return ((arm.name, SCRATCH) for arm in experiment.arms if arm.name != SCRATCH)


def _with_encoder(experiment: Experiment) -> Iterable[tuple[str, str]]:
    """Return the arm that has the decoder of the same weights, too."""
    encoder = next((arm for arm in experiment.arms if arm.name == ENCODER), None)
    if encoder is not None:
        same = (arm.name for arm in experiment.arms if arm.weights == encoder.weights and arm.scope == "all")
        yield from ((name, ENCODER) for name in same)


def _between_methods(experiment: Experiment) -> Iterable[tuple[str, str]]:
    """Return the first of several methods with each of the others."""
    names = {arm.name for arm in experiment.arms}
    first, *others = [method for method in METHODS if method in names] or [""]
    return ((first, other) for other in others)


def compare(grid: ScoreGrid, arm: str, reference: str, labels: int, metric: str, label: str) -> Comparison | None:
    """Compare two arms in one respect; None where they do not share two test cases."""
    known = _known(grid.table(arm, labels, metric, label) - grid.table(reference, labels, metric, label))
    if known is None or known[0].shape[1] < 2:  # one case tells nothing of others
        return None
    values, cases = known
    differences = per_case(values)
    gains = differences if METRICS[metric] else -differences
    widest = BOUNDS[metric][1] - BOUNDS[metric][0]
    difference = mean_interval(values, (-widest, widest))
    return Comparison(
        arm=arm,
        labels=labels,
        metric=metric,
        label=label,
        difference=difference,
        per_seed=_per_seed(values),
        per_case=_named(values, grid, cases),
        better=int((gains > SAME).sum()),
        worse=int((gains < -SAME).sum()),
        equal=int((np.abs(gains) <= SAME).sum()),
        p=signed_rank_p(differences),
        p_holm=None,
        verdict=_verdict(difference, METRICS[metric]),
        reference=reference,
    )


def _verdict(difference: Interval, more_is_better: bool) -> Literal["better", "worse", "unclear"]:
    if difference.low <= SAME and difference.high >= -SAME:
        return "unclear"
    return "better" if (difference.value > 0) == more_is_better else "worse"


def _corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Correct for asking several times: all arms and labels of one metric and one class (or the mean) are a family."""
    families: dict[tuple[str, str], list[int]] = {}
    for place, comparison in enumerate(comparisons):
        families.setdefault((comparison.metric, comparison.label), []).append(place)
    corrected = list(comparisons)
    for places in families.values():
        for place, p in zip(places, holm([comparisons[place].p for place in places]), strict=True):
            corrected[place] = replace(comparisons[place], p_holm=p)
    return tuple(corrected)


def _measures(grid: ScoreGrid) -> Iterable[tuple[str, str]]:
    return product(METRICS, (MEAN, *grid.classes))


def _known(table: Floats) -> tuple[Floats, list[int]] | None:
    """Return the table without the seeds and cases that have no value at all, and the columns that are left."""
    there = ~np.isnan(table)
    cases = np.flatnonzero(there.any(axis=0))
    return (table[there.any(axis=1)][:, cases], cases.tolist()) if len(cases) else None


def _per_seed(values: Floats) -> tuple[float, ...]:
    return tuple(float(row) for row in np.nanmean(values, axis=1))


def _named(values: Floats, grid: ScoreGrid, cases: Sequence[int]) -> dict[str, float]:
    return {grid.cases[case]: float(value) for case, value in zip(cases, per_case(values), strict=True)}
