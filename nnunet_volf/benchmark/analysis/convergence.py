"""How the validation Dice rises, and how soon an arm reaches what scratch ends with.

The mean curve is the plain mean over the trainings, epoch by epoch, and nothing is smoothed: the first epoch that
reaches the target counts, even if the curve falls again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_volf.benchmark.analysis.crossed_bootstrap import Floats
from nnunet_volf.benchmark.analysis.statistics import SAME
from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import Outcome


@dataclass(frozen=True)
class Convergence:
    """The validation Dice of an arm after each epoch."""

    arm: str
    labels: int
    curve: tuple[float, ...]  # mean over seeds and folds
    spread: tuple[tuple[float, float], ...]  # the lowest and the highest seed
    reached: int | None  # iterations until the curve first reaches scratch's final value
    scratch_reached: int
    target: float  # scratch's final value


def final_value(curve: Sequence[float] | Floats) -> float:
    """Return the mean of the last tenth of a curve, of one epoch at least."""
    return float(np.mean(curve[-max(1, len(curve) // 10) :]))


def compute_convergence(experiment: Experiment, outcomes: Sequence[Outcome]) -> tuple[Convergence, ...]:
    """Return the curves of all arms, each over the seeds and folds that scratch has too."""
    curves: dict[tuple[str, int], dict[tuple[int, int], tuple[float, ...]]] = {}
    for outcome in outcomes:
        if outcome.curve:
            run = outcome.run
            curves.setdefault((run.arm, run.labels), {})[run.seed, run.fold] = outcome.curve
    found = []
    for labels in experiment.labels:
        scratch = curves.get((SCRATCH, labels), {})
        for arm in experiment.arms:
            own = curves.get((arm.name, labels), {})
            shared = sorted(own.keys() & scratch.keys())
            if shared:
                own, reference = ({key: of[key] for key in shared} for of in (own, scratch))
                found.append(_converged(arm.name, labels, own, reference, experiment.iterations))
    return tuple(found)


def _converged(
    arm: str,
    labels: int,
    own: Mapping[tuple[int, int], Sequence[float]],
    scratch: Mapping[tuple[int, int], Sequence[float]],
    iterations: int,
) -> Convergence:
    curve, reference = _mean(list(own.values())), _mean(list(scratch.values()))
    target = final_value(reference)
    seeds = [_mean([own[key] for key in own if key[0] == seed])[: len(curve)] for seed in {seed for seed, _ in own}]
    scratch_reached = _first(reference, target, iterations)
    assert scratch_reached is not None  # a curve always reaches the mean of its own end
    return Convergence(
        arm=arm,
        labels=labels,
        curve=tuple(curve.tolist()),
        spread=tuple(zip(np.min(seeds, axis=0).tolist(), np.max(seeds, axis=0).tolist(), strict=True)),
        reached=_first(curve, target, iterations),
        scratch_reached=scratch_reached,
        target=target,
    )


def _mean(curves: Sequence[Sequence[float]]) -> Floats:
    epochs = min(len(curve) for curve in curves)
    return np.mean([curve[:epochs] for curve in curves], axis=0)  # type: ignore[no-any-return]


def _first(curve: Floats, target: float, iterations: int) -> int | None:
    reached = np.flatnonzero(curve >= target - SAME)
    return (int(reached[0]) + 1) * iterations if len(reached) else None
