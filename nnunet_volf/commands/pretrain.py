"""``nnunet-volf pretrain``: from a folder of scans to a pretrained network, in one line that can be repeated."""

from __future__ import annotations

import argparse

from nnunet_volf.commands import options

NAME = "pretrain"
HELP = "From a folder of scans to a pretrained network: import, plan, preprocess, train; run again, it goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    options.add_source(parser)
    options.add_target(parser)
    options.add_planning(parser)
    options.add_workers(parser)
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of stored voxels [%(default)s]"
    )
    parser.add_argument("-f", default="all", metavar="FOLD", help="0 to 4 hold a fifth of the cases out [%(default)s]")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="[%(default)s]")
    parser.add_argument("-num_gpus", type=int, default=1, help="[%(default)s]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and how long it takes")


def run(args: argparse.Namespace) -> int:
    """Go through the stages; each finds out by itself what is done already."""
    from nnunet_volf.preprocessing.pipeline import Pipeline

    pipeline = Pipeline(args)
    print(pipeline.outlook(), flush=True)
    if args.dry_run:
        print(f"\nnext: the same command without --dry-run")
        return 0
    for stage in pipeline.stages():
        print(stage, flush=True)
    return pipeline.train()
