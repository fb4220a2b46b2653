"""What a step of pretraining and of fine-tuning costs beside a step of nnU-Net's own trainer on the same batch.

All three train the plan's network with as many outputs, from the same images and labels, in turns. What differs is what
our trainers do besides: they look whether the loss is finite, and the loss of Volume Fusion counts the background. The
dataset is imported, planned and preprocessed before; nothing is written but into a temporary folder.

    python benchmarks/training_step.py Dataset501_Archive [-p VolFPlans] [--rounds 20] [--threads 1]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

# nnU-Net reads its folders when it is imported; logs of these trainings are of no use to anybody.
_results = tempfile.TemporaryDirectory()
os.environ |= {"nnUNet_results": _results.name, "nnUNet_n_proc_DA": "0"}

import torch  # noqa: E402
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from pretext_steps import quietly, step_of  # noqa: E402
from timing import conditions, print_table, side_by_side  # noqa: E402

from nnunet_volf.discovery import resolve_trainer  # noqa: E402

YARDSTICK = "nnU-Net"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("-p", default="VolFPlans", metavar="PLANS")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    with quietly():
        pretraining: Any = get_trainer_from_args(
            arguments.dataset, arguments.c, "all", "nnUNetTrainerVolF", arguments.p, device=device
        )
        pretraining.on_train_start()
        batch = next(pretraining.dataloader_train)
        if pretraining.make_batch is not None:
            batch = pretraining.make_batch(batch)
        trainers = {
            YARDSTICK: beside(pretraining, nnUNetTrainer),
            "pretraining by Volume Fusion": pretraining,
            "fine-tuning": beside(pretraining, resolve_trainer("nnUNetTrainerVolFFineTune")),
        }
        for trainer in trainers.values():
            trainer.on_train_epoch_start()
    plan = pretraining.configuration_manager
    print(f"{arguments.dataset}, patch {plan.patch_size}, batch {plan.batch_size}, {device}; {conditions()}")
    steps = {name: step_of(trainer, batch) for name, trainer in trainers.items()}
    print_table("A step", side_by_side(steps, YARDSTICK, arguments.rounds), YARDSTICK)


def beside(trainer: Any, kind: type) -> Any:
    """Return another trainer of the same plan, whose labels are the classes of the fusion."""
    made = kind(
        {**trainer.plans_manager.plans, "continue_training": False},
        trainer.configuration_name,
        trainer.fold,
        trainer.dataset_json,
        trainer.device,
    )
    made.initialize()
    return made


if __name__ == "__main__":
    main()
