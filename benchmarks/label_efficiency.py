"""A first look at what pretrained weights are worth with few labels: fine-tuning as nnU-Net trains, and from scratch.

Both arms share plan, training cases, nnU-Net's schedule and seed; the cases that are not trained on are the test
cases. One number is one training: look at the spread over seeds before you believe a difference.

    python benchmarks/label_efficiency.py 4 --pretrained checkpoint_final.pth -p nnUNetPlans \
        --labels 3 --seeds 1 2 3 --epochs 10 --iterations 50
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from few_labels import Task, choose, train
from timing import conditions


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

    task = Task.find(args.dataset, args.p, args.c, args.device)
    settings = {"preset": "nnunet", "epochs": args.epochs, "iterations": args.iterations}
    print(conditions())
    print(f"{args.labels} labelled cases, {args.epochs} x {args.iterations} steps; mean Dice of the other cases\n")
    print("| seed | cases | scratch | pretrained | per class: scratch | per class: pretrained |")
    print("|---|---|---|---|---|---|")
    for seed in args.seeds:
        cases = choose(task.identifiers(), args.labels, seed)
        others = [case for case in task.identifiers() if case not in cases]
        scratch, pretrained = (train(task, settings, w, seed, cases, others) for w in (None, args.pretrained))
        row = [seed, " ".join(cases), *(f"{arm['mean']:.3f}" for arm in (scratch, pretrained))]
        row += [", ".join(f"{value:.3f}" for value in arm["classes"]) for arm in (scratch, pretrained)]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
