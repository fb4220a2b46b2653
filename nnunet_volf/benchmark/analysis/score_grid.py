"""All scores of a benchmark as tables of seeds x cases, in which every arm is judged on the same cases and classes.

nnU-Net gives a class no score where neither the truth nor the prediction has it. An arm that invents such a class gets
the worst score, and an arm that rightly leaves it out gets none: dropping the pair would let the invention go unseen.
So a case and class is judged for all as soon as any training has a score there, and those that rightly leave the class
out are perfect there. Where no training has a score, the pair of case and class is left out for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.benchmark.analysis.crossed_bootstrap import Floats
from nnunet_volf.benchmark.results import METRICS, Outcome

MEAN = "mean"  # in place of a class: the mean of the classes of a case
PERFECT = {"dice": 1.0, "nsd": 1.0, "hd95": 0.0, "assd": 0.0}

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ScoreGrid:
    """The scores of all arms, and what they are judged on."""

    seeds: tuple[int, ...]
    cases: tuple[str, ...]
    classes: tuple[str, ...]
    scores: dict[tuple[str, int], Floats]  # of an arm and labels: metrics x classes x seeds x cases, 0 where not judged
    tested: dict[tuple[str, int], Bools]  # of an arm and labels: seeds x cases
    judged: Bools  # metrics x classes x cases
    invented: int  # pairs of a case and a class in which some trainings found a class that is not there

    def table(self, arm: str, labels: int, metric: str, label: str) -> Floats:
        """Return seeds x cases of a class, or of the mean of each case's judged classes; NaN where there is none."""
        if (arm, labels) not in self.scores:
            return np.full((len(self.seeds), len(self.cases)), np.nan)
        metric_place, chosen = self._places(metric, label)
        judged = self.judged[metric_place, chosen].sum(axis=0)
        total = self.scores[arm, labels][metric_place, chosen].sum(axis=0)
        known = self.tested[arm, labels] & (judged > 0)
        means: Floats = np.divide(total, judged, out=np.full(total.shape, np.nan), where=known)
        return means

    def left_out(self, arm: str, labels: int, metric: str, label: str) -> int:
        """Return how many pairs of a case that the arm was tested on and a class have no score from any training."""
        metric_place, chosen = self._places(metric, label)
        tested = self.tested[arm, labels].any(axis=0)
        return int((~self.judged[metric_place, chosen][:, tested]).sum())

    def _places(self, metric: str, label: str) -> tuple[int, slice]:
        place = None if label == MEAN else self.classes.index(label)
        return list(METRICS).index(metric), slice(None) if place is None else slice(place, place + 1)


def score_grid(outcomes: Sequence[Outcome], classes: Sequence[str]) -> ScoreGrid:
    """Put the scores of trainings, one for an arm, labels, seed and fold, into tables."""
    seeds = sorted({outcome.run.seed for outcome in outcomes})
    cases = sorted({score.case for outcome in outcomes for score in outcome.scores})
    row, column, place = ({name: n for n, name in enumerate(names)} for names in (seeds, cases, classes))
    shape = (len(METRICS), len(classes), len(seeds), len(cases))
    scores = {key: np.full(shape, np.nan) for key in {(o.run.arm, o.run.labels) for o in outcomes}}
    tested = {key: np.zeros(shape[2:], bool) for key in scores}
    for outcome in outcomes:
        key, seed = (outcome.run.arm, outcome.run.labels), row[outcome.run.seed]
        for score in outcome.scores:
            case = column[score.case]
            tested[key][seed, case] = True
            # None becomes NaN
            scores[key][:, place[score.label], seed, case] = [getattr(score, metric) for metric in METRICS]
    judged = np.zeros((*shape[:2], shape[3]), bool)
    absent = np.zeros(judged.shape, bool)
    for key, values in scores.items():
        judged |= ~np.isnan(values).all(axis=2)
        absent |= (np.isnan(values) & tested[key]).any(axis=2)
    best = np.array([PERFECT[metric] for metric in METRICS])[:, None, None, None]
    for values in scores.values():
        values[:] = np.where(np.isnan(values), best * judged[:, :, None], values)
    invented = int((judged & absent)[list(METRICS).index("dice")].sum())
    return ScoreGrid(tuple(seeds), tuple(cases), tuple(classes), scores, tested, judged, invented)
