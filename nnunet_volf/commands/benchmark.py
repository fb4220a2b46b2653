"""``nnunet-volf benchmark``: does pretraining help this task? Trainings with few labels, compared case by case."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_volf import plans
from nnunet_volf.commands import options
from nnunet_volf.datasets import RESULTS, nnunet_folder
from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.setting_rules import parse_assignments

if TYPE_CHECKING:
    from nnunet_volf.benchmark.experiment import Experiment
    from nnunet_volf.benchmark.results import Run

NAME = "benchmark"
HELP = (
    "Does it help my task? Trainings with few labels, from scratch and pretrained, and a report. Run again, it goes on"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("dataset", help="the labelled dataset, planned and preprocessed, for example 4")
    options.add_plans(parser)
    parser.add_argument("--pretrained", metavar="FILE", help="the weights of the arms that name none of their own")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=[],
        metavar="ARM",
        help=f"of scratch, encoder (only that of the weights), {', '.join(METHODS)} (all that their method trained), "
        "stock (nnUNetTrainer), METHOD=FILE or NAME=FILE (other weights) [scratch, encoder, the method, stock]",
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="N",
        help="labelled cases to train on [3 5 10 100%%, of what there is]",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="repeats of each training [%(default)s]")
    parser.add_argument(
        "--folds", nargs="+", type=int, default=[0], metavar="FOLD", help="whose validation cases are tested on [0]"
    )
    parser.add_argument("--epochs", type=int, default=100, metavar="N", help="of every arm [%(default)s]")
    parser.add_argument("--iterations", type=int, default=250, metavar="N", help="steps an epoch [%(default)s]")
    parser.add_argument(
        "--validation-iterations", type=int, metavar="N", help="batches watched after each epoch [a fifth of the steps]"
    )
    parser.add_argument(
        "--validation-cases", type=int, metavar="N", help="held out to watch [a fifth of the training cases]"
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=[1.0],
        metavar="FACTOR",
        help="factors of each arm's learning rate; the best on the validation cases counts [1]",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of fine-tuning, all arms")
    parser.add_argument(
        "--tolerance", type=float, metavar="MM", help="of the surface Dice [the plan's largest spacing]"
    )
    parser.add_argument("--no-mirroring", action="store_true", help="predict each image once: eight times faster in 3D")
    options.add_device(parser)
    parser.add_argument("-np", type=int, default=1, metavar="N", help="trainings at a time [%(default)s]")
    options.add_dask(parser, "train")
    parser.add_argument("-o", type=Path, metavar="FOLDER", help="[in nnUNet_results, beside the dataset's trainings]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")


def run(args: argparse.Namespace) -> int:
    """Say what is compared, do the trainings that are missing, and write the report."""
    from nnunet_volf.benchmark.asking import Request, make_experiment
    from nnunet_volf.benchmark.folder import IMAGES, collect, only_benchmark, open_folder
    from nnunet_volf.preprocessing.occurrences import Occurrences

    # What machine trains is for the user to know, where it is not this one.
    device = args.device if args.dask and args.device else options.device_here(args.device)
    folder = (args.o or _default_folder(args)).resolve()
    request = Request(
        dataset=args.dataset,
        plans_name=args.p,
        configuration=args.c,
        pretrained=args.pretrained,
        arms=args.arms,
        labels=args.labels,
        seeds=args.seeds,
        folds=args.folds,
        rates=args.rates,
        epochs=args.epochs,
        iterations=args.iterations,
        validation_iterations=args.validation_iterations,
        validation_cases=args.validation_cases,
        settings=parse_assignments(args.set),
        tolerance=args.tolerance,
        mirroring=not args.no_mirroring,
    )
    experiment = make_experiment(request, Occurrences(folder / IMAGES))
    _say_what_is_compared(experiment, folder)
    outcomes, _ = collect(folder, experiment.runs())
    done = {outcome.run for outcome in outcomes}
    to_do = [run for run in experiment.runs() if run not in done]
    print(f"{len(experiment.runs())} trainings, {len(done)} of them done", flush=True)
    if args.dry_run:
        print("\nnext: the same command without --dry-run")
        return 0
    with only_benchmark(folder):
        open_folder(folder, experiment)
        try:
            _train(args, folder, device, to_do, _inputs(experiment))
        finally:
            code = _report(folder, experiment)
    return code


def _default_folder(args: argparse.Namespace) -> Path:
    planned = plans.planned_dataset(args.dataset, args.p)
    return nnunet_folder(RESULTS) / planned.name / f"benchmark__{args.p}__{args.c}"


def _say_what_is_compared(experiment: Experiment, folder: Path) -> None:
    from nnunet_volf.benchmark.asking import schedule_of

    cases = experiment.cases.values()
    print(f"{experiment.dataset}, {experiment.plans_name}, {experiment.configuration}; results in {folder}")
    print(f"  {'alike':12} {experiment.epochs} x {experiment.iterations} steps, plan, split, labelled cases, seeds")
    for arm in experiment.arms:
        print(f"  {arm.name:12} {arm}; {schedule_of(arm, experiment)}")
    print(f"  {'labels':12} {', '.join(map(str, experiment.labels))} of {min(len(parts.pool) for parts in cases)}")
    print(f"  {'tested on':12} {sum(len(parts.test) for parts in cases)} cases that no arm is trained on")
    for sentence in experiment.data["leakage"]:
        print(f"  {'leakage':12} {sentence}")


def _train(args: argparse.Namespace, folder: Path, device: str, to_do: list[Run], inputs: list[Path]) -> None:
    from nnunet_volf.benchmark.execution import train_here, train_on_dask
    from nnunet_volf.benchmark.outlook import Outlook

    with options.cluster_asked(args, args.np) as cluster:
        if cluster is None:
            ended = train_here(folder, to_do, device, args.np)
        else:
            ended = train_on_dask(folder, to_do, device, cluster, inputs)
        outlook = Outlook(folder, len(to_do))
        for run in ended:
            print(outlook.describe(run), flush=True)


def _inputs(experiment: Experiment) -> list[Path]:
    """Return what trainings read."""
    weights = [Path(arm.weights) for arm in experiment.arms if arm.weights is not None]
    return [plans.planned_dataset(experiment.dataset, experiment.plans_name).folder, *weights]


def _report(folder: Path, experiment: Experiment) -> int:
    """Write what is known, also of an interrupted benchmark; end with 1 where a training failed."""
    from nnunet_volf.benchmark.advice import next_step
    from nnunet_volf.benchmark.folder import collect
    from nnunet_volf.benchmark.publishing import publish
    from nnunet_volf.benchmark.tables import terminal_table

    outcomes, failures = collect(folder, experiment.runs())
    if not outcomes:
        for failure in failures[:1]:
            print(f"\nno training has succeeded: {failure.reason}; its log is {folder / failure.log}", file=sys.stderr)
        return 1
    published = publish(folder, experiment, outcomes, failures, shlex.join(["nnunet-volf", *sys.argv[1:]]))
    print(f"\n{terminal_table(published.findings)}\n\n{published.findings.verdict.sentence}\n")
    for failure in failures:
        print(f"failed: {failure.run.name}: {failure.reason}; log: {folder / failure.log}")
    print(f"report: {published.report}")
    missing = len(outcomes) < len(experiment.runs())
    again = "next: the same command, which does the trainings that are missing"
    print(again if missing else next_step(experiment, published.findings))
    return 1 if failures else 0
