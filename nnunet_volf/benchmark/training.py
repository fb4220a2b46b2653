"""One training of a benchmark, in a process of its own: train, segment the test cases, score them, write the result.

It reads the dataset's preprocessed folder and writes nothing there: plans, split and schedule are handed to nnU-Net's
trainer in memory, and its results folder lies within the benchmark's.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_volf.benchmark.arms import STOCK_TRAINER, Arm
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.folder import EXPERIMENT, RESULT, predictions_folder, read_experiment, run_folder
from nnunet_volf.benchmark.prediction import Scoring, segment_and_score
from nnunet_volf.benchmark.results import Outcome, Run
from nnunet_volf.benchmark.subsets import subset
from nnunet_volf.environment import variable
from nnunet_volf.errors import StorageError
from nnunet_volf.files import read_json, write_json
from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.orphans import end_with_parent
from nnunet_volf.plans import planned_dataset, with_settings
from nnunet_volf.provenance import versions
from nnunet_volf.storage_errors import told_of_folder
from nnunet_volf.training_files import EXIT_STORAGE
from nnunet_volf.weights.names import canonical_name
from nnunet_volf.weights.trained import on_encoder_side


def carry_out(folder: Path, name: str, device: str) -> Outcome:
    """Do one training of the experiment in a folder, and keep its result there."""
    experiment = read_experiment(folder / EXPERIMENT)
    run = next(run for run in experiment.runs() if run.name == name)
    with _own_results(run_folder(folder, run) / "training"):
        outcome = _train(experiment, run, folder, torch.device(device))
    write_json(run_folder(folder, run) / RESULT, outcome.to_mapping())
    return outcome


def main() -> None:
    """Do what the process was started for: the folder, the name of the training, the device."""
    folder, name, device = sys.argv[1:]
    end_with_parent()
    try:
        with told_of_folder(Path(folder)):
            carry_out(Path(folder), name, device)
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_STORAGE) from error


def _train(experiment: Experiment, run: Run, folder: Path, device: torch.device) -> Outcome:
    started = perf_counter()
    cases, arm = experiment.cases[run.fold], experiment.arm(run.arm)
    training = subset(cases.pool, run.labels, run.seed)
    _seed(run.seed)
    trainer = make_trainer(experiment, run, device)
    trainer.do_split = lambda: (list(training), list(cases.validation))
    trainer.initialize()
    if arm.weights is not None:
        load(trainer, arm)
    trainer.run_training()
    scoring = Scoring(
        experiment.classes,
        experiment.tolerance,
        Path(trainer.preprocessed_dataset_folder_base) / "gt_segmentations",
        predictions_folder(folder, run),
    )
    scores = segment_and_score(trainer, cases.test, scoring, experiment.mirroring)
    return Outcome(
        run=run,
        training_cases=training,
        scores=scores,
        curve=_curve(trainer),
        seconds=perf_counter() - started,
        conditions=_conditions(device),
    )


def make_trainer(experiment: Experiment, run: Run, device: torch.device) -> Any:
    """Return the trainer of an arm with the experiment's schedule, which no file needs to hold."""
    arm = experiment.arm(run.arm)
    planned = planned_dataset(experiment.dataset, experiment.plans_name)
    rate = FineTuneSettings.from_mapping(experiment.settings).peak_learning_rate * run.rate
    settings = {**experiment.settings, "learning_rate": rate}
    planned = with_settings(planned, experiment.configuration, settings, FineTuneSettings)
    plans = {**planned.plans, "continue_training": False}  # as nnUNetv2_train tells a trainer
    trainer_class = recursive_find_trainer_class_by_name(arm.trainer)
    trainer = trainer_class(
        plans, experiment.configuration, run.fold, read_json(planned.folder / "dataset.json"), device
    )
    if arm.trainer == STOCK_TRAINER:  # it reads no settings of ours
        trainer.num_epochs = experiment.epochs
        trainer.num_iterations_per_epoch = experiment.iterations
        trainer.initial_lr *= run.rate
    trainer.num_val_iterations_per_epoch = experiment.validation_iterations
    trainer.disable_checkpointing = True
    return trainer


def load(trainer: Any, arm: Arm) -> None:
    """Load the weights of an arm as nnU-Net does; with the encoder alone, the rest stays as it was initialised."""
    trainer.pretrained_weights = Path(str(arm.weights))
    network = trainer.network
    own = {}
    if arm.scope == "encoder":
        parts = network.state_dict().items()
        own = {name: tensor.clone() for name, tensor in parts if not on_encoder_side(canonical_name(name))}
    load_pretrained_weights(network, str(arm.weights))
    if own:
        network.load_state_dict(own, strict=False)


def _seed(seed: int) -> None:
    """Let the arms of one seed begin alike: the same initial network, and where loaders allow it the same crops."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the state that nnU-Net's loaders draw from
    torch.manual_seed(seed)


def _curve(trainer: Any) -> tuple[float, ...]:
    values = trainer.logger.get_value("mean_fg_dice", step=None)
    # Not a number where no class occurred in what was watched nor was found there.
    return tuple(float(value) if np.isfinite(value) else 0.0 for value in values)


def _conditions(device: torch.device) -> dict[str, Any]:
    is_gpu = device.type == "cuda"
    return {
        **versions(),
        "device": torch.cuda.get_device_name(device) if is_gpu else f"{device.type}, {torch.get_num_threads()} threads",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


@contextmanager
def _own_results(folder: Path) -> Iterator[None]:
    """Let nnU-Net keep what it writes during a training apart from all others, and throw it away at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with variable("nnUNet_results", str(folder)):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
