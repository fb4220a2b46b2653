"""Fine-tuning: ``nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainerVolFFineTune -pretrained_weights FILE``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_volf.datasets import preprocess_command
from nnunet_volf.durable import DurableTraining
from nnunet_volf.errors import DataError, TrainingError
from nnunet_volf.filter_sizes import filter_sizes, normalised_filters, resize
from nnunet_volf.finetune_settings import FINE_TUNE_KEY, FINE_TUNING, OF_THE_OPTIMIZER, FineTuneSettings
from nnunet_volf.labelled_damage import damaged_labelled
from nnunet_volf.learning_rates import ScheduledRates
from nnunet_volf.parameter_groups import group_parameters
from nnunet_volf.provenance import versions
from nnunet_volf.resumed import describe_changes, setting_changes
from nnunet_volf.training_files import FINAL, LATEST
from nnunet_volf.weights import origin
from nnunet_volf.weights.asked import asked
from nnunet_volf.weights.target import task_of_trainer


class nnUNetTrainerVolFFineTune(DurableTraining, nnUNetTrainer):
    """nnU-Net's trainer in everything but the schedule; without weights it is the scratch arm under equal conditions.

    The settings come from the key ``volf_finetune`` of the configuration in the plans.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the signature is nnU-Net's
    ) -> None:
        """Read the settings."""
        plan = PlansManager(plans).get_configuration(configuration)
        self.settings = FineTuneSettings.from_mapping(plan.configuration.get(FINE_TUNE_KEY, {}))
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.train_by(self.settings)
        self.asked = asked(sys.argv)
        self.pretrained_weights = self.asked.weights  # other callers may name the file before they initialize
        self.start = origin.Start({})
        self.started_from: dict[str, Any] | None = None
        self.resumed = False

    def initialize(self) -> None:
        """Find out whether the weights that will be loaded fit, and watch that they are loaded."""
        super().initialize()
        self.filters = normalised_filters(self.network)
        self.initial_sizes = filter_sizes(self.filters)
        if self.pretrained_weights is not None:  # before nnU-Net, whose own refusal is a bare assertion
            self.start = origin.look_before_loading(self.pretrained_weights, task_of_trainer(self))
        self.loading = origin.LoadingWatch(self.network)

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return the optimizer of the settings, and their schedule in place of nnU-Net's."""
        rates = ScheduledRates(group_parameters(self.network.named_parameters(), self.settings), self.settings)
        return rates.optimizer, rates

    def on_train_start(self) -> None:
        """Start as nnU-Net does, say what from, and keep pretrained weights before anything can go wrong."""
        if not self.was_initialized:
            self.initialize()
        loaded = self.loading.stop()
        if self.pretrained_weights is not None and not loaded:
            raise TrainingError(
                f"{self.pretrained_weights} was named, but nothing was loaded into the network. Load it before the "
                "training: load_pretrained_weights(trainer.network, file)."
            )
        super().on_train_start()
        self.print_to_log_file(f"Fine-tuning settings: {self.settings.to_mapping()}")
        if self.resumed:
            self.print_to_log_file(f"Going on. {origin.describe(self.started_from)}")
        elif loaded:
            self._begin_from_weights()
        else:
            self.print_to_log_file(origin.SCRATCH)
            if self.asked.resume:
                self.print_to_log_file(
                    "WARNING: --c found no checkpoint to continue, and nnU-Net loads no pretrained weights with it."
                )

    def _begin_from_weights(self) -> None:
        self.started_from = self.start.record
        name = self.pretrained_weights or "a file that nnU-Net does not name"
        self.print_to_log_file("\n  ".join([f"Pretrained weights were loaded from {name}.", *self.start.lines]))
        for warning in self.start.warnings:
            self.print_to_log_file(f"WARNING: {warning}")
        if self.settings.filter_sizes == "initial" and self.filters:
            grown = max(resize(self.filters, self.initial_sizes))
            self.print_to_log_file(
                f"The filters keep what they compute, and have the size of a new network's again: they were up to "
                f"{grown:.1f} times as large, and would have learnt that much more slowly."
            )
        # Without a checkpoint `--c` starts a new training, and nnU-Net takes no pretrained weights together with it.
        self.epoch_outputs = []  # within epoch 0, of which no step is done
        self.save_checkpoint(str(Path(self.output_folder) / LATEST))

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take a step at its own learning rate."""
        self.lr_scheduler.set(self.current_epoch, self.iteration)
        output: dict[str, Any] = super().train_step(batch)
        return output

    def look_into(self, failure: Exception) -> None:
        """Name the damaged case. With few labelled cases, going on without one would be another experiment."""
        damaged = [
            f"case {case}: {problem}"
            for part in self.get_tr_and_val_datasets()
            for case, problem in damaged_labelled(part)
        ]
        if damaged:
            command = preprocess_command(self.plans_manager.dataset_name, self.plans_manager.plans_name)
            message = (
                f"A labelled case is damaged, and training without it would not be the same: {'; '.join(damaged)}. "
                f"Preprocess again: {command} -c {self.configuration_name}; then continue with --c."
            )
            self.print_to_log_file(f"Stopped: {message}")
            raise DataError(message) from failure

    def checkpoint_extras(self) -> dict[str, Any]:
        """Keep with the weights how they are trained and what they started from."""
        return {
            "method": FINE_TUNING,
            "settings": self.settings.to_mapping(),
            "started_from": self.started_from,
            "versions": versions(),
        }

    def check_resumed(self, state: dict[str, Any]) -> None:
        """Say which settings have changed since a checkpoint, and refuse those that its optimizer does not fit."""
        self.resumed = True
        self.started_from = state.get("started_from")
        changes = setting_changes(state.get("settings", {}), self.settings.to_mapping())
        unfit = {name: change for name, change in changes.items() if name in OF_THE_OPTIMIZER}
        if unfit:
            back = " ".join(f"{name}={old}" for name, (old, _) in unfit.items())
            raise TrainingError(
                f"The plans have changed since the checkpoint: {describe_changes(unfit)}. The state of its optimizer "
                f"does not fit. Set {back} again, or start anew under another plans name "
                "(nnunet-volf settings … --fine-tune --as NAME)."
            )
        if changes:
            self.print_to_log_file(f"Settings changed since the checkpoint: {describe_changes(changes)}")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, and say how the model leaves this package."""
        super().perform_actual_validation(save_probabilities)
        if (Path(self.output_folder) / FINAL).is_file():
            self.print_to_log_file(
                "Next, make a model of all finished folds that a stock nnU-Net predicts with, without this package:\n"
                f"  nnunet-volf weights export {shlex.quote(str(self.output_folder_base))} --as-stock "
                f"-o {shlex.quote(f'{self.plans_manager.dataset_name}_stock')}"
            )
