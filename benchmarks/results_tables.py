"""Tables of what benchmarks found, as docs/benchmarks.md and docs/recipe.md have them.

    python benchmarks/results_tables.py FOLDER [FOLDER ...] [--against scratch]

A row for each arm and number of labels: its Dice, each seed, the difference to another arm with its 95 % interval over
cases and seeds, in how many test cases it is better / worse, p after Holm's correction for the rows of the table, NSD
and HD95, and the steps to scratch's final Dice of the watched cases. Where several numbers of labels were asked for,
the rows `all` compare the means over them, case by case and seed by seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_volf.benchmark.analysis.comparisons import Comparison, compare
from nnunet_volf.benchmark.analysis.crossed_bootstrap import Floats, mean_over_cases
from nnunet_volf.benchmark.analysis.findings import findings
from nnunet_volf.benchmark.analysis.rates import at_rates, choose_rates
from nnunet_volf.benchmark.analysis.score_grid import MEAN, ScoreGrid, score_grid
from nnunet_volf.benchmark.analysis.statistics import holm
from nnunet_volf.benchmark.analysis.wording import change, interval, p_value
from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.folder import EXPERIMENT, collect, read_experiment
from nnunet_volf.benchmark.results import Failure, Outcome

ALL = 0  # in place of a number of labels: the mean over all of them
COLUMNS = ("Dice", "each seed", "minus {}", "cases", "p", "NSD", "HD95 (mm)", "steps to scratch's Dice")


def main() -> None:
    """Print the table of each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of benchmarks")
    parser.add_argument("--against", default=SCRATCH, metavar="ARM", help="what the others are compared with [scratch]")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        print(f"{folder}\n\n{table(folder, arguments.against)}\n")


def table(folder: Path, against: str = SCRATCH) -> str:
    """Return the table of one benchmark."""
    experiment, outcomes, failures = read(folder)
    found = findings(experiment, outcomes, failures)
    grid = grid_of(experiment, outcomes)
    arms = [arm.name for arm in experiment.arms]
    if against not in arms:
        raise SystemExit(f"{folder} has no arm {against}, but {', '.join(arms)}.")
    asked = (*experiment.labels, ALL) if len(experiment.labels) > 1 else tuple(experiment.labels)
    keys = [(labels, arm) for labels in asked for arm in arms]
    compared = {(n, arm): compare(grid, arm, against, n, "dice", MEAN) for n, arm in keys if arm != against}
    corrected = dict(zip(compared, holm([one.p if one else None for one in compared.values()]), strict=True))
    steps = {(one.labels, one.arm): str(one.reached or "never") for one in found.convergence}
    head = ("labels", "arm", *(column.format(against) for column in COLUMNS))
    rows = [head, ("---",) * len(head)]
    for labels, arm in keys:
        dice, nsd, hd95 = (grid.table(arm, labels, metric, MEAN) for metric in ("dice", "nsd", "hd95"))
        if np.isnan(dice).all():
            continue
        rows.append(
            (
                "all" if labels == ALL else str(labels),
                arm,
                f"{mean_over_cases(dice):.3f}",
                each_seed(dice),
                *difference(compared.get((labels, arm)), corrected.get((labels, arm))),
                f"{mean_over_cases(nsd):.3f}",
                f"{mean_over_cases(hd95):.2f}",
                steps.get((labels, arm), ""),
            )
        )
    said = [found.verdict.sentence] if against == SCRATCH else []
    return "\n\n".join(["\n".join(f"| {' | '.join(row)} |" for row in rows), *said, *found.missing])


def each_seed(values: Floats) -> str:
    """Return the mean of each seed; one that has none yet is a dash."""
    return ", ".join("-" if np.isnan(seed).all() else f"{np.nanmean(seed):.3f}" for seed in values)


def difference(one: Comparison | None, p: float | None) -> tuple[str, str, str]:
    """Return a difference with its interval, in how many cases it is one, and how likely by chance."""
    if one is None:
        return "", "", ""
    return f"{change(one.difference.value)} ({interval(one.difference)})", f"{one.better} / {one.worse}", p_value(p)


def read(folder: Path) -> tuple[Experiment, list[Outcome], list[Failure]]:
    """Return what was asked, and what there is of it."""
    experiment = read_experiment(folder / EXPERIMENT)
    return experiment, *collect(folder, experiment.runs())


def grid_of(experiment: Experiment, outcomes: Sequence[Outcome]) -> ScoreGrid:
    """Return the scores of all arms at the rates that their report shows, and their means over the labels."""
    chosen = at_rates(outcomes, choose_rates(outcomes))
    return with_means_over_labels(score_grid(chosen, tuple(experiment.classes.values())), experiment)


def with_means_over_labels(grid: ScoreGrid, experiment: Experiment) -> ScoreGrid:
    """Return the scores with their means over the numbers of labels, of the arms that have all of them."""
    scores, tested = dict(grid.scores), dict(grid.tested)
    for arm in experiment.arms:
        keys = [(arm.name, labels) for labels in experiment.labels]
        if all(key in grid.scores for key in keys):
            scores[arm.name, ALL] = np.mean([grid.scores[key] for key in keys], axis=0)
            tested[arm.name, ALL] = np.all([grid.tested[key] for key in keys], axis=0)
    return replace(grid, scores=scores, tested=tested)


if __name__ == "__main__":
    main()
