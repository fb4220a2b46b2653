"""``nnunet-volf plan``: plans for an imported archive, those of another dataset or its own."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_volf import plans
from nnunet_volf.commands import options
from nnunet_volf.launch import trainings_with
from nnunet_volf.setting_rules import parse_assignments

NAME = "plan"
HELP = "Plan an imported archive like another dataset (--for 4), or by itself, without labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="the imported dataset, for example 501")
    options.add_target(parser)
    options.add_planning(parser)
    options.add_workers(parser)


def run(args: argparse.Namespace) -> int:
    """Write the plans, say what they mean, and what does not fit."""
    from nnunet_volf.preprocessing.imported import imported_dataset

    dataset = imported_dataset(args.d)
    plan_and_say(args, dataset)
    print(f"\nnext: nnunet-volf preprocess -d {dataset.number} -p {args.name} -c {args.c}")
    return 0


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the pretraining settings that were asked for."""
    return parse_assignments(args.set) | ({"preset": args.preset} if args.preset else {})


def plan_and_say(args: argparse.Namespace, dataset: Any) -> plans.PlannedDataset:
    """Plan an imported dataset as the arguments say, and print what came out.

    Where a plan of this name was trained with, another one is refused, as those weights would not fit it.
    """
    from nnunet_volf import machine
    from nnunet_volf.preprocessing import comparison, planning
    from nnunet_volf.preprocessing.fingerprint import fingerprint_like, take_fingerprint
    from nnunet_volf.preprocessing.protected import look_for_leaks

    workers = machine.worker_processes(args.np).value
    notes: list[str] = []
    trained = trainings_with(dataset.name, args.name)
    before = plans.planned_dataset(dataset.name, args.name).plans if trained else None
    if args.target:
        target = plans.planned_dataset(args.target, args.p)
        notes += planning.check_channels(target.channel_names(), dataset, target.name)
        notes += look_for_leaks(dataset.folder, args.target, workers)
        made = planning.plan_like(target, dataset, args.name)
        fingerprint = fingerprint_like(dataset, made)
        origin = f"like {target.name}, {args.p}"
        if before is not None:
            planning.require_same(before, made)
    elif before is not None:
        planning.require_planner(before, args.pl)
        made, fingerprint = before, fingerprint_like(dataset, before)
        origin = f"by {args.pl}, kept as it was when the training began"
    else:
        fingerprint = take_fingerprint(dataset, args.sample, workers)
        made = planning.plan_own(dataset, fingerprint, args.name, args.pl, args.spacing)
        origin = f"by {args.pl}, from tissue in {fingerprint.sampled} of {len(dataset.cases)} cases"
    planned: plans.PlannedDataset = planning.write_plans(dataset, made, args.c, settings_of(args), fingerprint)

    archive = comparison.Archive.read(dataset.folder)
    print(f"{planned.name}, {args.c}, {args.name}: {origin}")
    for name, value in comparison.describe(archive, planned, args.c):
        print(f"  {name:15} {value}")
    for note in [*notes, *comparison.warnings(archive, planned, args.c)]:
        print(f"  warning: {note}")
    return planned
