"""``nnunet-volf plan``: plans for an imported archive, or with another network for a labelled dataset."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nnunet_volf import plans
from nnunet_volf.commands import options
from nnunet_volf.datasets import PREPROCESSED, RAW, dataset_number, find_dataset, is_imported
from nnunet_volf.errors import DataError, SettingsError
from nnunet_volf.launch import trainings_with
from nnunet_volf.networks.catalogue import NETWORKS, Network, require_dimensions
from nnunet_volf.next_commands import plan_with_network_command, pretrain_command, train_command
from nnunet_volf.setting_rules import parse_assignments

if TYPE_CHECKING:
    from nnunet_volf.preprocessing.planners import Planner

NAME = "plan"
HELP = "Plan an imported archive, like another dataset (--for 4) or by itself; or another network for a labelled one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "-d",
        required=True,
        metavar="DATASET",
        help="the imported dataset, for example 501; with --architecture or --context-block also a labelled one, "
        "for example 4",
    )
    options.add_target(parser)
    options.add_planning(parser)
    options.add_workers(parser)


def run(args: argparse.Namespace) -> int:
    """Write the plans, say what they mean, and what does not fit."""
    from nnunet_volf.preprocessing.imported import imported_dataset

    network_of(args)
    name = find_dataset(args.d, RAW).name
    if not is_imported(name):
        if args.architecture or args.context_block:
            return _plan_labelled(args, name)
        number = dataset_number(name)
        raise DataError(
            f"{name} was not imported by nnunet-volf. nnUNetv2_plan_and_preprocess -d {number} plans it with nnU-Net's "
            f"networks; with another, {plan_with_network_command(number, NETWORKS['pctnet'])}. To pretrain on its "
            f"images, import them as a dataset of their own: nnunet-volf import {number}."
        )
    dataset = imported_dataset(args.d)
    target_of(args)
    plan_and_say(args, dataset)
    print(f"\nnext: nnunet-volf preprocess -d {dataset.number} -p {args.name} -c {args.c}")
    return 0


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the pretraining settings that were asked for."""
    return parse_assignments(args.set) | ({"preset": args.preset} if args.preset else {})


def network_of(args: argparse.Namespace) -> Network | None:
    """Return the network that was asked for, which must be there for the configuration."""
    if args.architecture is None:
        return None
    network = NETWORKS[args.architecture]
    require_dimensions(network, args.c, 2 if args.c == "2d" else 3)
    return network


def planner_of(args: argparse.Namespace) -> Planner:
    """Return what plans are made by, where they are made."""
    from nnunet_volf.preprocessing.planners import Planner

    return Planner(args.pl, network_of(args), args.spacing, args.gpu_memory_target, args.context_block)


def target_of(args: argparse.Namespace, write: bool = True) -> plans.PlannedDataset | None:
    """Return the dataset that an archive is planned for, and settle the names of its plans and of the archive's.

    Where a network or a context block was asked for that the dataset has no plans with yet, they are made first, and
    written if `write`.
    """
    from nnunet_volf.preprocessing.target_plans import plan_target, require_network, write_target

    asked, network = args.p, network_of(args)
    args.name = args.name or plans.OUR_PLANS
    args.p = asked or plans.DEFAULT_PLANS
    if args.target is None:
        return None
    if network is None and not args.context_block:
        return plans.planned_dataset(args.target, args.p)
    planner = planner_of(args)
    args.p = asked or planner.plans_name
    folder = find_dataset(args.target, PREPROCESSED)
    if (folder / f"{args.p}.json").is_file():
        there = plans.planned_dataset(args.target, args.p)
        require_network(there, args.c, network, args.context_block)
        return there
    if asked:
        raise SettingsError(
            f"{folder / args.p}.json does not exist. Leave -p out, which makes {planner.plans_name} where they are not "
            "there; or make these plans: "
            f"{plan_with_network_command(args.target, network, args.context_block)} --as {args.p}."
        )
    planned: plans.PlannedDataset = plan_target(args.target, planner, args.p)
    if write:
        planned = write_target(planned, args.c, {}, options.method_asked(args))
    when = "made" if write else "will be made"
    print(f"{planned.name} has no plans with {planner.asked_for}: {args.p} {when} first")
    _print_plan(planned, args, planner)
    print()
    return planned


def _plan_labelled(args: argparse.Namespace, dataset: str) -> int:
    from nnunet_volf.preprocessing.shared_data import cases_preprocessed
    from nnunet_volf.preprocessing.target_plans import plan_target, write_target

    if args.target:
        raise SettingsError(
            f"--for {args.target} says which dataset an archive is planned for, and {dataset} was not imported by "
            f"nnunet-volf. Leave --for out to plan {dataset} itself."
        )
    planner = planner_of(args)
    name = args.name or planner.plans_name
    planned = write_target(plan_target(dataset, planner, name), args.c, settings_of(args), options.method_asked(args))
    done, cases = cases_preprocessed(planned, args.c, find_dataset(dataset, RAW))
    number = planned.number
    _print_plan(planned, args, planner)
    there = f"all {cases}" if done == cases else f"{done} of {cases}"
    print(f"  {'preprocessed':15} {there} cases, in {planned.configuration(args.c)['data_identifier']}")
    if done == cases:
        print(f"\nnext: {train_command(number, name, args.c)}")
    else:
        print(f"\nnext: nnUNetv2_preprocess -d {number} -plans_name {name} -c {args.c}")
        print(f"then: {train_command(number, name, args.c)}")
    print(f"or first, on scans without labels: {pretrain_command(number, name, args.c)}")
    return 0


def _print_plan(planned: plans.PlannedDataset, args: argparse.Namespace, planner: Planner) -> None:
    from nnunet_volf.preprocessing.comparison import describe_plan

    print(f"{planned.name}, {args.c}, {planned.plans['plans_name']}: by {planner}")
    for name, value in describe_plan(planned.configuration(args.c)):
        print(f"  {name:15} {value}")


def plan_and_say(args: argparse.Namespace, dataset: Any) -> plans.PlannedDataset:
    """Plan an imported dataset as the arguments say, once `target_of` has settled names, and print what came out.

    Where a plan of this name was trained with, another one is refused, as those weights would not fit it.
    """
    from nnunet_volf.locks import only_planning
    from nnunet_volf.preprocessing.planning import preprocessed_folder

    with only_planning(preprocessed_folder(dataset), args.name):
        return _plan_and_say(args, dataset)


def _plan_and_say(args: argparse.Namespace, dataset: Any) -> plans.PlannedDataset:
    from nnunet_volf import machine
    from nnunet_volf.preprocessing import comparison, planning
    from nnunet_volf.preprocessing.fingerprint import fingerprint_like, take_fingerprint
    from nnunet_volf.preprocessing.protected import look_for_leaks

    workers, planner = machine.worker_processes(args.np).value, planner_of(args)
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
        planning.require_planner(before, planner)
        made, fingerprint = before, fingerprint_like(dataset, before)
        origin = f"by {planner}, kept as it was when the training began"
    else:
        fingerprint = take_fingerprint(dataset, args.sample, workers)
        made = planning.plan_own(dataset, fingerprint, args.name, planner)
        origin = f"by {planner}, from tissue in {fingerprint.sampled} of {len(dataset.cases)} cases"
    method = options.method_asked(args)
    planned: plans.PlannedDataset = planning.write_plans(dataset, made, args.c, settings_of(args), fingerprint, method)

    archive = comparison.Archive.read(dataset.folder)
    print(f"{planned.name}, {args.c}, {args.name}: {origin}")
    for name, value in comparison.describe(archive, planned, args.c, method):
        print(f"  {name:15} {value}")
    for note in [*notes, *comparison.warnings(archive, planned, args.c, method)]:
        print(f"  warning: {note}")
    return planned
