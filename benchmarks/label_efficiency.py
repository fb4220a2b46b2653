"""A first look at what pretrained weights are worth with few labels: nnU-Net's own trainer, with and without them.

Both arms share plan, training cases, schedule and seed; the cases that are not trained on are the test cases. One
number is one training: look at the spread over seeds before you believe a difference.

    python benchmarks/label_efficiency.py 4 --pretrained checkpoint_final.pth -p nnUNetPlans \
        --labels 3 --seeds 1 2 3 --epochs 10 --iterations 50
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
from pathlib import Path

import numpy as np
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import get_trainer_from_args
from timing import conditions

STOCK = "nnUNetTrainer"


def main() -> None:
    """Train every arm with every seed and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-c", default="3d_fullres")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--labels", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)

    print(conditions())
    print(f"{args.labels} labelled cases, {args.epochs} x {args.iterations} steps; mean Dice of the other cases\n")
    print("| seed | cases | scratch | pretrained | per class: scratch | per class: pretrained |")
    print("|---|---|---|---|---|---|")
    for seed in args.seeds:
        scratch, pretrained = (train(args, seed, weights) for weights in (None, args.pretrained))
        cases = " ".join(scratch["cases"])
        row = [seed, cases, *(f"{arm['mean']:.3f}" for arm in (scratch, pretrained))]
        row += [", ".join(f"{value:.3f}" for value in arm["classes"]) for arm in (scratch, pretrained)]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def train(args: argparse.Namespace, seed: int, weights: Path | None) -> dict:
    """Train one arm once and return the Dice of the cases it has not seen."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the state that nnU-Net's loaders draw from
    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = get_trainer_from_args(args.dataset, args.c, 0, STOCK, args.p, device=torch.device(args.device))
        trainer.initialize()
        identifiers = sorted(trainer.dataset_class.get_identifiers(trainer.preprocessed_dataset_folder))
        chosen = sorted(np.random.default_rng(seed).choice(identifiers, args.labels, replace=False).tolist())
        trainer.do_split = lambda: (list(chosen), [i for i in identifiers if i not in chosen])
        trainer.num_epochs = trainer.lr_scheduler.max_steps = args.epochs
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = args.iterations, 1
        trainer.disable_checkpointing = True
        if weights is not None:
            load_pretrained_weights(trainer.network, str(weights))
        trainer.run_training()
        trainer.inference_allowed_mirroring_axes = None  # eight times faster, for both arms alike
        trainer.perform_actual_validation()
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    return {
        "cases": chosen,
        "mean": summary["foreground_mean"]["Dice"],
        "classes": [scores["Dice"] for scores in summary["mean"].values()],
    }


if __name__ == "__main__":
    main()
