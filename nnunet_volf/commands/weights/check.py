"""``nnunet-volf weights check``: what a task's network takes over from a file, before any GPU time is spent."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_volf.commands import options
from nnunet_volf.weights.choices import FITS

NAME = "check"
HELP = "Compare a file of weights with a task: what is carried over, adapted, skipped, missing. Ends with 0, 3 or 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        f"{HELP}: 0, the file fits as it is; 3, it fits once adapted; 4, nothing of it fits. 2 is an error."
    )
    parser.add_argument("file", type=Path, help="checkpoint or file of weights")
    options.add_task(parser)
    parser.add_argument("-v", action="store_true", help="a line for each tensor, not for each module")


def run(args: argparse.Namespace) -> int:
    """Print the comparison, the verdict, and the next command."""
    from nnunet_volf.weights.briefing import brief, fine_tune_command, next_command, verdict
    from nnunet_volf.weights.dialects import read_pretrained
    from nnunet_volf.weights.table import module_table, tensor_table
    from nnunet_volf.weights.target import other_tasks, task_of_dataset

    task = task_of_dataset(args.d, args.p, args.c)
    pretrained = read_pretrained(args.file, args.trust)
    briefing = brief(pretrained, task, args.scope, args.channels)
    print("\n".join(briefing.lines))
    print(f"for {task.dataset}, {task.plans_name}, {task.configuration}\n")
    print(tensor_table(briefing.match) if args.v else module_table(briefing.match))
    left = briefing.match.left
    if left and not args.v:
        print(f"{len(left)} tensors of the file have no place in the network, {left[0]} the first of them")
    print()
    for warning in briefing.warnings:
        print(f"warning: {warning}")
    print(verdict(briefing, task))
    if briefing.code != FITS:
        for other in other_tasks(task):
            if brief(pretrained, other, args.scope, args.channels).fits:
                print(f"it fits as it is with -p {other.plans_name}: {fine_tune_command(args.file, other)}")
    print(f"\nnext: {next_command(briefing, args.file, task)}")
    return briefing.code
