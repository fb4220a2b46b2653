"""``nnunet-volf weights adapt``: a file that nnU-Net's own ``-pretrained_weights`` takes for a task."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_volf.commands import options
from nnunet_volf.weights.choices import ADAPTED, CARRIED

NAME = "adapt"
HELP = "Fit weights to a task with other channels, kernels, strides or stages, so that nnU-Net takes them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", type=Path, help="checkpoint or file of weights")
    options.add_task(parser)
    parser.add_argument("-o", type=Path, metavar="FILE", help="[beside the file, named after the task]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is initialised anew [%(default)s]")


def run(args: argparse.Namespace) -> int:
    """Write the adapted file, say what it is made of, and print the command that uses it."""
    from nnunet_volf.weights.adapting import adapt
    from nnunet_volf.weights.briefing import adapted_name, brief, fine_tune_command
    from nnunet_volf.weights.dialects import read_pretrained
    from nnunet_volf.weights.table import module_table
    from nnunet_volf.weights.target import task_of_dataset

    task = task_of_dataset(args.d, args.p, args.c)
    pretrained = read_pretrained(args.file, args.trust)
    briefing = brief(pretrained, task, args.scope, args.channels)
    output = args.o or adapted_name(args.file, task)
    adapt(pretrained, briefing.match, task, output, args.seed)
    print(module_table(briefing.match))
    print()
    for warning in briefing.warnings:
        print(f"warning: {warning}")
    share = briefing.match.share_of_network(CARRIED, ADAPTED)
    print(f"written: {output}; {share:.1%} of the network from {args.file.name}, the rest initialised anew")
    print(f"\nnext: {fine_tune_command(output, task)}")
    return 0
