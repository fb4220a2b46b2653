"""One training on few labelled cases, and the Dice of the cases that it was not shown: what the comparisons share."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_volf import plans
from nnunet_volf.finetune_settings import FINE_TUNE_KEY
from nnunet_volf.weights.names import canonical_name

TRAINER = "nnUNetTrainerVolFFineTune"


@dataclass(frozen=True)
class Task:
    """What is trained: a dataset and its plans, on a device."""

    dataset: plans.PlannedDataset
    configuration: str
    device: torch.device

    @classmethod
    def find(cls, dataset: str, plans_name: str, configuration: str, device: str) -> Task:
        """Find a preprocessed dataset."""
        return cls(plans.planned_dataset(dataset, plans_name), configuration, torch.device(device))

    def identifiers(self) -> list[str]:
        """Return the names of all cases with labels."""
        return sorted(path.name.split(".")[0] for path in (self.dataset.folder / "gt_segmentations").iterdir())


def choose(cases: Sequence[str], number: int, seed: int) -> list[str]:
    """Return some of the cases, chosen by a seed."""
    return sorted(np.random.default_rng(seed).choice(sorted(cases), number, replace=False).tolist())


def train(
    task: Task,
    settings: Mapping[str, Any],
    weights: str | Path | None,
    seed: int,
    training: Sequence[str],
    test: Sequence[str],
    scope: str = "all",
) -> dict[str, Any]:
    """Train once and return the Dice of the test cases; nothing is kept on the disk."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the state that nnU-Net's loaders draw from
    torch.manual_seed(seed)
    started = perf_counter()
    before = os.environ.get("nnUNet_results")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["nnUNet_results"] = folder  # trainings side by side have the same names
        try:
            trainer = make_trainer(task, settings)
            trainer.do_split = lambda: (list(training), list(test))
            trainer.num_val_iterations_per_epoch = 1
            trainer.disable_checkpointing = True
            trainer.initialize()
            if weights is not None:
                load(trainer.network, weights, scope)
            trainer.run_training()
            trainer.inference_allowed_mirroring_axes = None  # eight times faster, for all arms alike
            trainer.perform_actual_validation()
            summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
        finally:
            os.environ.pop("nnUNet_results") if before is None else os.environ.update(nnUNet_results=before)
    return {
        "cases": list(training),
        "mean": summary["foreground_mean"]["Dice"],
        "classes": [scores["Dice"] for scores in summary["mean"].values()],
        "losses": [round(float(value), 4) for value in trainer.logger.get_value("train_losses", step=None)],
        "seconds": round(perf_counter() - started),
    }


def load(network: torch.nn.Module, weights: str | Path, scope: str) -> None:
    """Load weights as nnU-Net does; with the scope "encoder" the decoder stays as this training initialised it."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_pretrained_weights(network, str(weights))
    if scope == "encoder":
        own = {name: tensor for name, tensor in before.items() if not canonical_name(name).startswith("encoder.")}
        network.load_state_dict(own, strict=False)


def make_trainer(task: Task, settings: Mapping[str, Any]) -> Any:
    """Return a fine-tuning trainer with these settings, which no file needs to hold."""
    used = json.loads(json.dumps(task.dataset.plans))
    used["configurations"][task.configuration][FINE_TUNE_KEY] = dict(settings)
    used["continue_training"] = False  # as nnUNetv2_train tells a trainer
    description = json.loads((task.dataset.folder / "dataset.json").read_text(encoding="utf-8"))
    trainer_class = recursive_find_trainer_class_by_name(TRAINER)
    return trainer_class(used, task.configuration, 0, description, task.device)
