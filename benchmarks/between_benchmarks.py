"""Compare trainings under different plans or schedules: an arm of several benchmarks, case by case and seed by seed.

`nnunet-volf benchmark` compares arms under one plan and one schedule. Benchmarks of one dataset with the same split,
labels, seeds and steps differ in nothing else, so one's arm stands to another's as two arms of one benchmark do, and
the statistics are the same. Rows are called after the folders.

    python benchmarks/between_benchmarks.py YARDSTICK_FOLDER FOLDER [FOLDER ...] [--arm scratch] [--metric dice]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

from results_tables import difference, each_seed

from nnunet_volf.benchmark.analysis.comparisons import compare
from nnunet_volf.benchmark.analysis.crossed_bootstrap import mean_over_cases
from nnunet_volf.benchmark.analysis.score_grid import MEAN, score_grid
from nnunet_volf.benchmark.analysis.statistics import holm
from nnunet_volf.benchmark.folder import EXPERIMENT, collect, read_experiment
from nnunet_volf.benchmark.results import METRIC_NAMES, Outcome

# What has to be the same for plans or the settings of fine-tuning to be the only difference.
SHARED = ("dataset", "configuration", "classes", "labels", "seeds", "cases", "epochs", "iterations", "mirroring")


def main() -> None:
    """Print a row for each benchmark and number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of benchmarks, the yardstick first")
    parser.add_argument("--arm", default="scratch")
    parser.add_argument("--metric", choices=METRIC_NAMES, default="dice")
    arguments = parser.parse_args()

    experiments = {folder: read_experiment(folder / EXPERIMENT) for folder in arguments.folders}
    names = [folder.resolve().name for folder in experiments]
    first, *others = experiments.values()
    for name, other in zip(names[1:], others, strict=True):
        if differing := [field for field in SHARED if getattr(other, field) != getattr(first, field)]:
            parser.error(
                f"{names[0]} and {name} differ in {', '.join(differing)}, not only in their plans or their schedule."
            )

    outcomes: list[Outcome] = []
    for name, (folder, experiment) in zip(names, experiments.items(), strict=True):
        done, _ = collect(folder, [run for run in experiment.runs() if run.arm == arguments.arm])
        outcomes += [replace(one, run=replace(one.run, arm=name)) for one in done]
    grid = score_grid(outcomes, list(first.classes.values()))

    pairs = [(labels, other) for labels in first.labels for other in names[1:]]
    found = [compare(grid, other, names[0], labels, arguments.metric, MEAN) for labels, other in pairs]
    corrected = holm([one.p if one else None for one in found])
    against = {pair: (one, p) for pair, one, p in zip(pairs, found, corrected, strict=True)}

    metric = METRIC_NAMES[arguments.metric]
    print(
        f"| labels | benchmark | {metric} | each seed | minus {names[0]} | cases | p | watched at the end | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for labels in first.labels:
        for name in names:
            values = grid.table(name, labels, arguments.metric, MEAN)
            mine = [o for o in outcomes if (o.run.arm, o.run.labels) == (name, labels)]
            comparison, p = against.get((labels, name), (None, None))
            cells = (
                labels,
                name,
                f"{mean_over_cases(values):.3f}",
                each_seed(values),
                *difference(comparison, p),
                f"{fmean(o.curve[-1] for o in mine):.3f}",
                f"{median(o.seconds for o in mine):.0f}",
            )
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
