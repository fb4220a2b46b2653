"""Real nnU-Net on phantoms, small enough for a laptop: what the end-to-end and durability tests share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

DATASET = "Dataset901_Phantom"
TRAINER = "nnUNetTrainerVolF"
FINE_TUNER = "nnUNetTrainerVolFFineTune"

# Settings of a pretraining that takes a moment.
FEW_STEPS = {"epochs": 2, "iterations": 3, "validation_samples": 4, "panel_every": 0, "save_every_epochs": 1}


def build_phantom_dataset(raw: Path) -> None:
    """Write, plan and preprocess a dataset with nnU-Net's own API, then make its networks tiny."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    from nnunet_volf.phantoms import write_phantom_dataset

    write_phantom_dataset(raw, DATASET, cases=6, shape=(22, 34, 28))
    extract_fingerprints([901], num_processes=1, check_dataset_integrity=False)
    plan_experiments([901])
    preprocess([901], configurations=["3d_fullres", "2d"], num_processes=[1, 1])
    change_plans(tiny_networks)


def change_plans(change: Any, source: str = "nnUNetPlans", target: str = "nnUNetPlans", dataset: str = DATASET) -> None:
    """Apply a function to the plans dictionary and write it under a name."""
    folder = Path(os.environ["nnUNet_preprocessed"]) / dataset
    plans = json.loads((folder / f"{source}.json").read_text(encoding="utf-8"))
    change(plans)
    plans["plans_name"] = target
    (folder / f"{target}.json").write_text(json.dumps(plans), encoding="utf-8")


def tiny_networks(plans: dict[str, Any]) -> None:
    for name, patch, strides in (
        ("3d_fullres", [16, 24, 20], [[1, 1, 1], [2, 2, 2], [2, 2, 2]]),
        ("2d", [24, 20], [[1, 1], [2, 2], [2, 2]]),
    ):
        configuration = plans["configurations"][name]
        configuration.update(batch_size=2, patch_size=patch)
        network = configuration["architecture"]["arch_kwargs"]
        network.update(
            n_stages=3,
            features_per_stage=[4, 8, 8],
            strides=strides,
            kernel_sizes=[[3] * len(patch)] * 3,
            n_conv_per_stage=[1, 1, 1],
            n_conv_per_stage_decoder=[1, 1],
        )


def with_settings(
    name: str = "Test",
    configuration: str = "3d_fullres",
    source: str = "nnUNetPlans",
    key: str = "volf",
    **settings: Any,
) -> str:
    """Write plans with these settings of a pretext, Volume Fusion unless told otherwise, and return their name."""

    def change(plans: dict[str, Any]) -> None:
        plans["configurations"][configuration][key] = {**FEW_STEPS, **settings}

    change_plans(change, source=source, target=name)
    return name


def with_fine_tuning(
    name: str = "Fine", configuration: str = "3d_fullres", source: str = "nnUNetPlans", **settings: Any
) -> str:
    """Write plans with these settings for fine-tuning and return their name."""
    defaults = {"epochs": 2, "iterations": 3, "save_every_epochs": 1}

    def change(plans: dict[str, Any]) -> None:
        plans["configurations"][configuration]["volf_finetune"] = {**defaults, **settings}

    change_plans(change, source=source, target=name)
    return name


def make_trainer(
    plans: str, trainer: str = TRAINER, configuration: str = "3d_fullres", fold: int | str = 0, resume: bool = False
) -> Any:
    """Return a trainer as nnUNetv2_train makes it, seeded."""
    import numpy as np
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    np.random.seed(7)  # noqa: NPY002 - the state that nnU-Net's loaders draw from
    torch.manual_seed(7)
    made = get_trainer_from_args(DATASET, configuration, fold, trainer, plans, resume, torch.device("cpu"))
    maybe_load_checkpoint(made, resume, False)
    return made


def run_until(trainer: Any, stop_at: int | None = None, number: int = signal.SIGTERM) -> None:
    """Train; before step `stop_at` (counted over all epochs) ask this process to stop."""
    step = trainer.train_step

    def counted(batch: dict[str, Any]) -> dict[str, Any]:
        if trainer.current_epoch * trainer.num_iterations_per_epoch + trainer.iteration == stop_at:
            os.kill(os.getpid(), number)
        output: dict[str, Any] = step(batch)
        return output

    trainer.train_step = counted
    trainer.run_training()


def die_in_the_second_epoch(trainer: Any) -> None:
    """Train until something ends it that leaves no time to save; the first epoch's checkpoint is all there is."""
    step = trainer.train_step

    def die(batch: dict[str, Any]) -> Any:
        if (trainer.current_epoch, trainer.iteration) == (1, 1):
            raise KeyboardInterrupt
        return step(batch)

    trainer.train_step = die
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()


def run_nnunet(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of nnU-Net's commands from this environment, in a process of its own."""
    script = shutil.which(command, path=str(Path(sys.executable).parent))
    assert script is not None, f"{command} is not installed beside {sys.executable}"
    return subprocess.run(
        [script, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["network_weights"]
    return weights


def short_stock_trainer(folder: Path, name: str = "nnUNetTrainerShort", *more: str) -> Path:
    """Write nnU-Net's own trainer with two steps in place of 250,000, and `more` statements, as a user's folder."""
    short = "self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1"
    body = "".join(f"        {line}\n" for line in (short, *more, "super().initialize()"))
    folder.mkdir()
    (folder / f"{name}.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n\n\n"
        f"class {name}(nnUNetTrainer):\n"
        "    def initialize(self):\n"
        f"{body}"
    )
    return folder


def with_idle_trainer(folder: Path) -> str:
    """Return nnU-Net's folders of trainers, one among them whose steps change nothing: it saves what it began with."""
    idle = short_stock_trainer(folder, "nnUNetTrainerIdle", "self.initial_lr = 0")
    return os.pathsep.join((str(idle), os.environ.get("nnUNet_extTrainer", "")))


def assert_all_but_heads_are_equal(pretrained: dict[str, torch.Tensor], stock: Path) -> None:
    fine_tuned = torch.load(stock, weights_only=False)["network_weights"]  # nnU-Net's own hold numpy's numbers
    assert_all_but_heads_carried(pretrained, fine_tuned)


def assert_all_but_heads_carried(pretrained: dict[str, torch.Tensor], loaded: dict[str, torch.Tensor]) -> None:
    assert pretrained.keys() == loaded.keys()
    for name, value in loaded.items():
        carried = value.shape == pretrained[name].shape and torch.equal(value, pretrained[name])
        assert carried == (".seg_layers." not in name), name
