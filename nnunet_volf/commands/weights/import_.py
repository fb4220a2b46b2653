"""``nnunet-volf weights import``: bring weights of others into the layout of nnU-Net's checkpoints."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from nnunet_volf.commands import options

NAME = "import"
HELP = "Bring weights of others (MIS-FM, nnssl and OpenMind, state dicts ...) into the layout of nnU-Net's checkpoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", type=Path, help="checkpoint or file of weights")
    parser.add_argument("-o", type=Path, metavar="FILE", help="file to write [beside the first: NAME-imported.pth]")
    options.add_resolution_mode(parser)
    options.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file, and say what is in it and what is not."""
    from nnunet_volf.weights.architectures import is_ours
    from nnunet_volf.weights.description import describe
    from nnunet_volf.weights.importing import default_output, import_weights

    output = args.o or default_output(args.file)
    imported = import_weights(args.file, output, args.trust, args.resolution_mode)
    print(describe(imported.weights))
    print(f"\nwritten: {output}")
    if imported.missing:
        print(
            f"It lacks {len(imported.missing)} of the names that nnU-Net asks for, the first is {imported.missing[0]}. "
            "weights adapt fills them for a task."
        )
    elif imported.network_known:
        print("nnU-Net's -pretrained_weights takes it as it is where the task's network is this one.")
    # No dataset has a plan with such a network by itself, so there is nothing yet to compare the weights with.
    own_plan = imported.weights.architecture is not None and is_ours(imported.weights.architecture)
    print(f"\nnext: nnunet-volf weights {'plan' if own_plan else 'check'} {shlex.quote(str(output))} -d DATASET")
    return 0
