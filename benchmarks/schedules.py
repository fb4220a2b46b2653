"""Which schedule fine-tunes best with few labels: every arm from scratch and from pretrained weights, seed by seed.

An arm is a name with settings of nnUNetTrainerVolFFineTune. The test cases are fixed, and the labelled cases of a
seed are the same in all arms. Every finished training is a line in the output file, and trainings that have one are
not repeated: a killed run goes on where it stopped. Processes share the work by `--part 0/2` and `--part 1/2`.

    python benchmarks/schedules.py 4 -p nnUNetPlans --test-cases test.txt --weights whole=checkpoint_final.pth \
        --labels 3 --seeds 1 2 3 --set epochs=10 iterations=50 --output schedules.jsonl \
        --arm sgd=optimizer:sgd --arm warm=optimizer:sgd,warmup:0.2 --arm adamw=optimizer:adamw
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Read by nnU-Net when it is imported: random numbers that do not depend on timing, and one process for the export.
os.environ.setdefault("nnUNet_n_proc_DA", "0")
os.environ.setdefault("nnUNet_def_n_proc", "1")

import torch
from few_labels import Task, choose, train
from timing import conditions

from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.setting_rules import parse_assignments

SCRATCH = "scratch"


@dataclass(frozen=True)
class Run:
    """One training of the experiment; what tells it from all others."""

    arm: str
    start: str  # "scratch" or the name of the weights
    seed: int
    labels: int
    dataset: str
    plans: str
    configuration: str
    settings: Mapping[str, Any]

    def result(self, finished: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the line of this training, if there is one."""
        own = asdict(self)
        return next((line for line in finished if {name: line.get(name) for name in own} == own), None)


def main() -> None:
    """Train what is missing and print a table of all that is there."""
    args = arguments()
    torch.set_num_threads(args.threads)
    task = Task.find(args.dataset, args.p, args.c, args.device)
    test = test_cases(args.test_cases, task.identifiers())
    others = [case for case in task.identifiers() if case not in test]
    starts = {
        SCRATCH: (None, "all"),
        **{name: (file, "all") for name, file in map(split, args.weights)},
        **{name: (file, "encoder") for name, file in map(split, args.encoder)},
    }
    runs = all_runs(args, task.dataset.name, list(starts))
    part, parts = (int(number) for number in args.part.split("/"))
    print(f"{conditions()}\n{args.labels} of {len(others)} labelled cases, {len(test)} test cases\n", flush=True)
    for run in runs[part::parts]:
        if run.result(read(args.output)) is None:
            cases = choose(others, args.labels, run.seed)
            weights, scope = starts[run.start]
            result = train(task, run.settings, weights, run.seed, cases, test, scope)
            append(args.output, {**asdict(run), **result})
            print(f"{run.arm}, {run.start}, seed {run.seed}: {result['mean']:.3f}, {result['seconds']} s", flush=True)
    print_table(runs, read(args.output))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-c", default="3d_fullres")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME=SETTING:VALUE,...")
    parser.add_argument("--arms", type=Path, metavar="JSON", help="a file of names and their settings")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of all arms")
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=FILE", help="beside training from scratch")
    parser.add_argument("--encoder", nargs="+", default=[], metavar="NAME=FILE", help="likewise, the encoder only")
    parser.add_argument("--test-cases", required=True, help="a text file with one case a line, or how names begin")
    parser.add_argument("--labels", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, required=True, help="a line of JSON for each finished training")
    parser.add_argument("--part", default="0/1", help="the share of the trainings that this process does")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def split(text: str) -> tuple[str, str]:
    """Split what is before the first equals sign from what is behind."""
    name, sign, rest = text.partition("=")
    if not sign or not name:
        raise SystemExit(f"{text!r} is not of the form NAME=...")
    return name, rest


def test_cases(asked: str, known: Sequence[str]) -> list[str]:
    """Return the cases that a file lists, or whose names begin with a text."""
    listed = Path(asked).read_text(encoding="utf-8").split() if Path(asked).is_file() else None
    found = [case for case in known if (case in listed if listed is not None else case.startswith(asked))]
    missing = set(listed or []) - set(known)
    if missing or not found:
        raise SystemExit(f"--test-cases {asked}: not in the dataset: {', '.join(sorted(missing)) or 'all of them'}.")
    return found


def all_runs(args: argparse.Namespace, dataset: str, starts: Sequence[str]) -> list[Run]:
    """Return all trainings, seed by seed, so that every arm has as many as another when the time is over."""
    arms: dict[str, dict[str, Any]] = json.loads(args.arms.read_text(encoding="utf-8")) if args.arms else {}
    for name, settings in (split(text) for text in args.arm):
        arms[name] = parse_assignments([pair.replace(":", "=", 1) for pair in settings.split(",") if pair])
    common = parse_assignments(args.set)
    checked = {name: FineTuneSettings.from_mapping({**common, **own}).to_mapping() for name, own in arms.items()}
    return [
        Run(arm, start, seed, args.labels, dataset, args.p, args.c, settings)
        for seed in args.seeds
        for arm, settings in checked.items()
        for start in starts
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the finished trainings; a line that a kill has cut short is not one."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def append(path: Path, result: Mapping[str, Any]) -> None:
    """Add a finished training on a line of its own, also behind a line that a kill has cut short."""
    cut = path.is_file() and not path.read_text(encoding="utf-8").endswith("\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(result) + "\n")


def print_table(runs: Sequence[Run], finished: Sequence[Mapping[str, Any]]) -> None:
    """Print what came out, an arm and a start a row, and how each start compares with scratch on equal seeds."""
    results: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for run in runs:
        found = run.result(finished)
        results.setdefault((run.arm, run.start), {}).update({run.seed: found} if found else {})
    print("\n| arm | start | mean Dice | each seed | each class | minus scratch |\n|---|---|---|---|---|---|")
    for (arm, start), by_seed in results.items():
        if not by_seed:
            continue
        means = {seed: result["mean"] for seed, result in by_seed.items()}
        scratch = results[arm, SCRATCH]
        differences = [means[seed] - scratch[seed]["mean"] for seed in means if start != SCRATCH and seed in scratch]
        classes = zip(*(result["classes"] for result in by_seed.values()), strict=True)
        row = [arm, start, f"{statistics.fmean(means.values()):.3f}", listed(means.values())]
        row += [listed(statistics.fmean(values) for values in classes), spread(differences)]
        print(f"| {' | '.join(row)} |")


def listed(values: Any) -> str:
    """Return numbers side by side."""
    return ", ".join(f"{value:.3f}" for value in values)


def spread(differences: Sequence[float]) -> str:
    """Return the mean of differences and their standard deviation, or nothing where there are none."""
    if not differences:
        return ""
    deviation = f" ± {statistics.stdev(differences):.3f}" if len(differences) > 1 else ""
    return f"{statistics.fmean(differences):+.3f}{deviation}"


if __name__ == "__main__":
    main()
