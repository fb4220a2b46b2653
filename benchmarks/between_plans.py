"""Compare trainings under different plans: the same arm of several benchmarks, case by case and seed by seed.

`nnunet-volf benchmark` compares arms under one plan. Benchmarks of one dataset with the same split, labels, seeds and
steps differ in nothing but their plans, so one's arm stands to another's as two arms of one benchmark do, and the
statistics are the same.

    python benchmarks/between_plans.py YARDSTICK_FOLDER FOLDER [FOLDER ...] [--arm scratch] [--metric dice]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

from nnunet_volf.benchmark.analysis.comparisons import compare
from nnunet_volf.benchmark.analysis.crossed_bootstrap import mean_over_cases
from nnunet_volf.benchmark.analysis.score_grid import MEAN, score_grid
from nnunet_volf.benchmark.analysis.statistics import holm
from nnunet_volf.benchmark.analysis.wording import change, interval, p_value
from nnunet_volf.benchmark.folder import EXPERIMENT, collect, read_experiment
from nnunet_volf.benchmark.results import METRIC_NAMES, Outcome

# What has to be the same for the plans to be the only difference.
SHARED = ("dataset", "configuration", "classes", "labels", "seeds", "cases", "epochs", "iterations", "mirroring")


def main() -> None:
    """Print a row for each plan and number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of benchmarks, the yardstick first")
    parser.add_argument("--arm", default="scratch")
    parser.add_argument("--metric", choices=METRIC_NAMES, default="dice")
    arguments = parser.parse_args()

    experiments = {folder: read_experiment(folder / EXPERIMENT) for folder in arguments.folders}
    first, *others = experiments.values()
    for other in others:
        if differing := [name for name in SHARED if getattr(other, name) != getattr(first, name)]:
            parser.error(
                f"{first.plans_name} and {other.plans_name} differ in {', '.join(differing)}, not only in their plans."
            )

    outcomes: list[Outcome] = []
    for folder, experiment in experiments.items():
        done, _ = collect(folder, [run for run in experiment.runs() if run.arm == arguments.arm])
        outcomes += [replace(one, run=replace(one.run, arm=experiment.plans_name)) for one in done]
    grid = score_grid(outcomes, list(first.classes.values()))

    pairs = [(labels, other.plans_name) for labels in first.labels for other in others]
    found = [compare(grid, plans, first.plans_name, labels, arguments.metric, MEAN) for labels, plans in pairs]
    corrected = holm([one.p if one else None for one in found])
    against = {pair: (one, p) for pair, one, p in zip(pairs, found, corrected, strict=True)}

    name = METRIC_NAMES[arguments.metric]
    print(
        f"| labels | plans | {name} | each seed | minus {first.plans_name} | cases | p | watched at the end | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for labels in first.labels:
        for experiment in experiments.values():
            values = grid.table(experiment.plans_name, labels, arguments.metric, MEAN)
            mine = [o for o in outcomes if (o.run.arm, o.run.labels) == (experiment.plans_name, labels)]
            comparison, p = against.get((labels, experiment.plans_name), (None, None))
            difference = (
                f"{change(comparison.difference.value)} ({interval(comparison.difference)})" if comparison else ""
            )
            cells = (
                labels,
                experiment.plans_name,
                f"{mean_over_cases(values):.3f}",
                ", ".join(f"{fmean(seed):.3f}" for seed in values.tolist()),
                difference,
                f"{comparison.better} / {comparison.worse}" if comparison else "",
                p_value(p) if comparison else "",
                f"{fmean(o.curve[-1] for o in mine):.3f}",
                f"{median(o.seconds for o in mine):.0f}",
            )
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
