"""``nnunet-volf train``: nnUNetv2_train with the same arguments, which torchrun can start on many machines."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_volf.errors import TrainingError

if TYPE_CHECKING:
    from nnunet_volf.ranks import Place

NAME = "train"
HELP = (
    "What nnUNetv2_train does, with its arguments; torchrun starts it on several GPUs or machines (torchrun … -m "
    "nnunet_volf train …)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of nnUNetv2_train."""
    parser.add_argument("dataset_name_or_id", metavar="DATASET", help="name or number, for example 4")
    parser.add_argument("configuration", metavar="CONFIGURATION", help="for example 3d_fullres")
    parser.add_argument("fold", metavar="FOLD", help="0 to 4, or all")
    parser.add_argument("-tr", default="nnUNetTrainer", metavar="TRAINER", help="[%(default)s]")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="[%(default)s]")
    parser.add_argument("-pretrained_weights", metavar="FILE", help="weights to start from")
    parser.add_argument(
        "-num_gpus", type=int, default=1, metavar="N", help="processes that nnU-Net starts itself; not under torchrun"
    )
    parser.add_argument("--npz", action="store_true", help="keep the probabilities of the final validation")
    parser.add_argument("--c", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--val", action="store_true", help="only validate a finished training")
    parser.add_argument("--val_best", action="store_true", help="validate with checkpoint_best")
    parser.add_argument("--disable_checkpointing", action="store_true", help="write no checkpoints, to try things out")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="[%(default)s]")


def run(args: argparse.Namespace) -> int:
    """Take part in the training that torchrun started, or train as nnUNetv2_train does."""
    _refuse_contradictions(args)
    from nnunet_volf.ranks import Place

    place = Place.told_by(os.environ)
    if place is None:
        return _as_nnunet(args)
    if args.num_gpus > 1:
        raise TrainingError(
            f"-num_gpus {args.num_gpus} has nnU-Net start processes itself, and torchrun has started {place.ranks} "
            "already. Leave -num_gpus out, and give their number to torchrun: --nproc-per-node."
        )
    if args.device == "mps":
        raise TrainingError("-device mps is one GPU for one process: train without torchrun.")
    _join(args, place)
    return 0


def _refuse_contradictions(args: argparse.Namespace) -> None:
    if args.fold != "all" and not args.fold.isdigit():
        raise TrainingError(f"The fold is a number or all, and not {args.fold!r}.")
    for pair in (("--c", "--val"), ("--c", "-pretrained_weights"), ("--val_best", "--disable_checkpointing")):
        if all(getattr(args, option.lstrip("-")) for option in pair):
            raise TrainingError(f"{' and '.join(pair)} contradict each other. Choose one.")


def _join(args: argparse.Namespace, place: Place) -> None:
    from nnunet_volf.torchrun import Request, train

    train(
        Request(
            dataset=args.dataset_name_or_id,
            configuration=args.configuration,
            fold=args.fold if args.fold == "all" else int(args.fold),
            trainer=args.tr,
            plans=args.p,
            pretrained_weights=Path(args.pretrained_weights) if args.pretrained_weights else None,
            device=args.device,
            resume=args.c,
            only_validation=args.val,
            best_for_validation=args.val_best,
            probabilities=args.npz,
            no_checkpoints=args.disable_checkpointing,
        ),
        place,
    )


def _as_nnunet(args: argparse.Namespace) -> int:
    """Hand the arguments to nnU-Net, under its command's name: trainers read there what they were started from."""
    from nnunetv2.run.run_training import run_training_entry

    before, sys.argv = sys.argv, ["nnUNetv2_train", *nnunets_arguments(args)]
    try:
        run_training_entry()
    finally:
        sys.argv = before
    return 0


def nnunets_arguments(args: argparse.Namespace) -> list[str]:
    """Return arguments as nnUNetv2_train takes them."""
    valued = {name: getattr(args, name) for name in ("tr", "p", "pretrained_weights", "num_gpus", "device")}
    options = [part for name, value in valued.items() if value is not None for part in (f"-{name}", str(value))]
    switches = ("npz", "c", "val", "val_best", "disable_checkpointing")
    named = [f"--{name}" for name in switches if getattr(args, name)]
    return [args.dataset_name_or_id, args.configuration, args.fold, *options, *named]
