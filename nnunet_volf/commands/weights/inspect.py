"""``nnunet-volf weights inspect``: say what a file of weights is, without running anything that is in it."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from nnunet_volf.commands import options

NAME = "inspect"
HELP = "Say what a file of weights is: origin, method, plan, network, preparation of the images, provenance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", type=Path, help="checkpoint or file of weights")
    options.add_resolution_mode(parser)
    options.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="as data, with the shape of each tensor")


def run(args: argparse.Namespace) -> int:
    """Print the description, and the command that compares the file with a task."""
    from nnunet_volf.weights.description import describe, facts
    from nnunet_volf.weights.dialects import read_pretrained

    pretrained = read_pretrained(args.file, args.trust, args.resolution_mode)
    if args.json:
        print(json.dumps(facts(pretrained), indent=4, default=str))
        return 0
    print(describe(pretrained))
    print(f"\nnext: nnunet-volf weights check {shlex.quote(str(args.file))} -d DATASET")
    return 0
