"""Which test cases the report shows: where the arm in question gains most, is in the middle, and loses most."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.benchmark.analysis.comparisons import Comparison
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.folder import predictions_folder
from nnunet_volf.benchmark.report.overlays import Overlay, draw_overlay, find_file
from nnunet_volf.benchmark.results import Outcome, Run


@dataclass(frozen=True)
class Shown:
    """A case with its pictures, or why there are none."""

    role: str
    case: str
    difference: float  # to scratch, over all seeds
    overlay: Overlay | None
    dice: Mapping[str, float | None]  # of each arm in the very prediction that is drawn
    problem: str = ""


@dataclass(frozen=True)
class Gallery:
    """The cases that are shown, and which trainings segmented them."""

    arm: str
    labels: int
    seed: int
    cases: tuple[Shown, ...]


def gallery(
    folder: Path,
    experiment: Experiment,
    outcomes: Sequence[Outcome],
    comparison: Comparison,
    rates: Mapping[str, float],
    images: Path | None,
    truths: Path,
    clean: Callable[[Any], str],
) -> Gallery:
    """Draw the best, median and worst case of a comparison.

    Args:
        folder: of the benchmark.
        experiment: the question.
        outcomes: the trainings that are done.
        comparison: by which cases are chosen.
        rates: the factor of the learning rate that was chosen for ``arm/labels``, where there were several.
        images: nnU-Net's imagesTr, if it is there.
        truths: the labels, a file a case.
        clean: makes a text fit to be shown.
    """
    done = {outcome.run: outcome for outcome in outcomes}
    used = {run.seed for run in done if (run.arm, run.labels) == (comparison.arm, comparison.labels)}
    seed = next(seed for seed in experiment.seeds if seed in used)
    cases = []
    for role, case in choose(comparison.per_case):
        fold = next(fold for fold, parts in experiment.cases.items() if case in parts.test)
        runs = {
            arm.name: Run(
                arm.name,
                comparison.labels,
                seed,
                fold,
                rates.get(f"{arm.name}/{comparison.labels}", experiment.rates[0]),
            )
            for arm in experiment.arms
        }
        files = {arm: find_file(predictions_folder(folder, run), case) for arm, run in runs.items()}
        image, truth = find_file(images, f"{case}_0000"), find_file(truths, case)
        overlay, problem = None, "its labels are not there"
        if truth is not None:
            try:
                overlay, problem = draw_overlay(truth, image, files, tuple(experiment.classes)), ""
            except RuntimeError as error:  # SimpleITK's, for a file that it cannot read
                problem = clean(str(error).strip().splitlines()[-1])
        scores = {arm: _dice(done[run], case) if run in done else None for arm, run in runs.items()}
        cases.append(Shown(role, case, comparison.per_case[case], overlay, scores, problem))
    return Gallery(comparison.arm, comparison.labels, seed, tuple(cases))


def choose(differences: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the best, the median and the worst case, each case once."""
    ordered = sorted(differences, key=lambda case: (-differences[case], case))
    last = len(ordered) - 1
    roles: dict[int, str] = {}
    for role, place in (("Best", 0), ("Worst", last), ("Median", last // 2)):
        roles.setdefault(place, role)
    return [(roles[place], ordered[place]) for place in sorted(roles)]


def _dice(outcome: Outcome, case: str) -> float | None:
    values = [s.dice for s in outcome.scores if s.case == case and s.dice is not None]
    return statistics.fmean(values) if values else None
