"""``nnunet-volf weights plan``: plans of a dataset with the network of a file of weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_volf import plans
from nnunet_volf.commands import options
from nnunet_volf.errors import WeightsError
from nnunet_volf.files import write_json
from nnunet_volf.locks import only_planning

NAME = "plan"
HELP = "Give a dataset plans with the network of a file, where adapting the weights would lose too much"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", type=Path, help="checkpoint or file of weights")
    parser.add_argument("-d", required=True, metavar="DATASET", help="the labelled dataset, planned, for example 4")
    parser.add_argument("-p", default=plans.DEFAULT_PLANS, metavar="PLANS", help="plans to start from [%(default)s]")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="[%(default)s]")
    parser.add_argument(
        "--as", dest="name", default="LikeWeights", metavar="PLANS", help="plans to write [%(default)s]"
    )
    parser.add_argument("--spacing", action="store_true", help="take the file's spacing too, and preprocess anew")
    parser.add_argument("--patch", nargs=3, type=int, metavar=("Z", "Y", "X"), help="in voxels [the file's]")
    options.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Write the plans, and print what the network now takes over and the next command."""
    from nnunet_volf.weights.briefing import brief, next_command, verdict
    from nnunet_volf.weights.dialects import read_pretrained
    from nnunet_volf.weights.planning import plans_with_network_of
    from nnunet_volf.weights.target import task_of_dataset

    dataset = plans.planned_dataset(args.d, args.p)
    pretrained = read_pretrained(args.file, args.trust)
    made = plans_with_network_of(pretrained, dataset, args.c, args.name, args.spacing, args.patch)
    path = dataset.folder / f"{args.name}.json"
    with only_planning(dataset.folder, args.name):
        if path.is_file() and plans.read_plans(dataset.folder, args.name) != made:
            raise WeightsError(f"{path} exists and says something else. Choose another name with --as.")
        write_json(path, made)
    task = task_of_dataset(args.d, args.name, args.c)
    briefing = brief(pretrained, task)
    taken = "the network" if args.patch else "the network and the patch"
    print(f"{path}: {args.c} as in {args.p}, with {taken} of {args.file.name}")
    for warning in briefing.warnings:
        print(f"warning: {warning}")
    print(verdict(briefing, task))
    if args.spacing:
        print(f"\nnext: nnUNetv2_preprocess -d {task.number} -plans_name {args.name} -c {args.c}")
        print(f"then: {next_command(briefing, args.file, task)}")
    else:
        print(f"\nnext: {next_command(briefing, args.file, task)}")
    return 0
