"""Pretraining by Volume Fusion: ``nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainerVolF``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.helpers import dummy_context
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import distributed as dist
from torch import nn

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.dataloading import FusionLoader
from nnunet_volf.durable import DurableTraining
from nnunet_volf.errors import TrainingError
from nnunet_volf.files import write_json
from nnunet_volf.labels import fusion_dataset_json
from nnunet_volf.next_commands import commands_after_pretraining
from nnunet_volf.optimizers import make_optimizer
from nnunet_volf.panels import PanelCase, draw_panel
from nnunet_volf.provenance import continued, describe_data, versions
from nnunet_volf.recipes import pair_recipe, training_recipe
from nnunet_volf.resumed import describe_changes, setting_changes
from nnunet_volf.scoring import FusionScores, confusion_matrix, describe, score
from nnunet_volf.settings import PLANS_KEY, VolFSettings
from nnunet_volf.shares import check_fusion
from nnunet_volf.splits import pretraining_split
from nnunet_volf.summary import summarize
from nnunet_volf.training_files import FINAL
from nnunet_volf.validation import FixedBatches, batches_of_rank


class nnUNetTrainerVolF(DurableTraining, nnUNetTrainer):
    """nnU-Net's trainer on pseudo-labels that it makes itself; what it does not override is nnU-Net's own.

    The settings come from the key ``volf`` of the configuration in the plans; labels of the dataset are never read.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the signature is nnU-Net's
    ) -> None:
        """Describe the fusion classes as the dataset's labels before nnU-Net looks at them."""
        plan = PlansManager(plans).get_configuration(configuration)
        if plan.previous_stage_name is not None:
            raise TrainingError(
                f"{configuration} is the second stage of a cascade: its input holds the segmentation of "
                f"{plan.previous_stage_name}, which unlabeled images do not have. Pretrain 3d_fullres or 3d_lowres "
                "instead."
            )
        self.settings = VolFSettings.from_mapping(plan.configuration.get(PLANS_KEY, {}))
        check_fusion(plan.patch_size, self.settings)
        super().__init__(
            plans, configuration, fold, fusion_dataset_json(dataset_json, self.settings.coefficients), device
        )
        self.train_by(self.settings)
        self.validation_loader: FusionLoader | None = None
        self.held_out = False
        self.split: tuple[list[str], list[str]] = ([], [])
        self.data: dict[str, Any] = {}  # what the weights come from; at first, what those of a resumed training did

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Use nnU-Net's SGD, or AdamW under the same polynomial decay."""
        parameters = self.network.parameters()
        optimizer = make_optimizer(self.settings.optimizer, parameters, self.initial_lr, self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def _build_loss(self) -> nn.Module:
        """Dice and cross-entropy as nnU-Net builds them, but Dice over the batch and with the background class."""
        loss: nn.Module = super()._build_loss()
        compound: Any = loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss
        dice: Any = getattr(compound.dc, "_orig_mod", compound.dc)  # torch.compile wraps it
        dice.do_bg = dice.batch_dice = True
        return loss

    def do_split(self) -> tuple[list[str], list[str]]:
        """Split as nnU-Net does, but also where the cases are too few for five folds."""
        return pretraining_split(self, super().do_split)

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return endless fusions of the training cases, and a fixed set of fusions of the held-out ones."""
        training, held_out = self.do_split()
        cases = UnlabeledCases(self.preprocessed_dataset_folder, training)
        loader = FusionLoader(cases, self.batch_size, training_recipe(self, self.settings))
        self._make_validation(training, held_out)
        self.split = (training, held_out)
        workers = get_allowed_n_proc_DA()
        if workers == 0:
            return SingleThreadedAugmenter(loader, None), self.dataloader_val
        pool = NonDetMultiThreadedAugmenter(
            loader,
            None,
            num_processes=workers,
            num_cached=max(6, workers // 2),
            pin_memory=self.device.type == "cuda",
            wait_time=0.002,
        )
        next(pool)  # starts the workers
        return pool, self.dataloader_val

    def _make_validation(self, training: list[str], held_out: list[str]) -> None:
        self.held_out = not set(training) & set(held_out)
        cases = UnlabeledCases(self.preprocessed_dataset_folder, held_out)
        recipe = pair_recipe(self.configuration_manager.patch_size, self.settings, self._get_deep_supervision_scales())
        self.validation_loader = FusionLoader(cases, self.batch_size, recipe)
        ranks = dist.get_world_size() if self.is_ddp else 1
        global_batch = self.configuration_manager.batch_size
        numbers = batches_of_rank(
            self.settings.validation_samples, global_batch, self.batch_size, self.local_rank, ranks
        )
        self.dataloader_val = FixedBatches(self.validation_loader, self.settings.validation_seed, numbers)
        self.num_val_iterations_per_epoch = len(self.dataloader_val)

    def on_train_start(self) -> None:
        """Start as nnU-Net does, then say once what is done and what to expect."""
        super().on_train_start()
        if self.local_rank == 0:
            training, held_out = self.split
            cases = UnlabeledCases(self.preprocessed_dataset_folder, training)
            self.data = continued({**describe_data(cases, held_out), "fold": str(self.fold)}, before=self.data)
            self.print_to_log_file(f"Data: {self.data}", also_print_to_console=False)
        k = self.settings.coefficients
        self.print_to_log_file(f"Volume Fusion settings: {self.settings.to_mapping()}", also_print_to_console=False)
        self.print_to_log_file(
            f"Pretraining by Volume Fusion: {self.settings.scheme} maps, {k} coefficients, partner "
            f"{self.settings.partner}, augmentation {self.settings.augmentation}; {self.num_epochs} epochs of "
            f"{self.num_iterations_per_epoch} steps. Labels of the dataset are not used.\n"
            f"A healthy run: the cross-entropy starts near ln {k + 1} = {np.log(k + 1):.2f}. First nearly everything "
            f"is called background; then the classes around {k}/2 come up, which need not know which volume is the "
            f"background; those near {k} follow as 'k taken for K-k' falls. A curve that stays flat is not healthy."
        )
        if not self.held_out:
            self.print_to_log_file(
                "Validation fusions are made from training cases (fold 'all', or too few cases to hold one out)."
            )

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the loss and the confusion matrix of a batch."""
        data = batch["data"].to(self.device, non_blocking=True)
        target: Any = batch["target"]
        target = [t.to(self.device) for t in target] if isinstance(target, list) else target.to(self.device)
        amp = torch.autocast("cuda") if self.device.type == "cuda" else dummy_context()
        with amp:
            output = self.network(data)
            loss = self.loss(output, target)
        finest, labels = (output[0], target[0]) if self.enable_deep_supervision else (output, target)
        confusion = confusion_matrix(finest.argmax(1), labels, self.settings.coefficients + 1)
        return {"loss": loss.cpu().numpy(), "confusion": confusion.cpu().numpy()}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log the scores of the fixed set under nnU-Net's own names, so that its plots show them."""
        loss, scores, _ = self._gather(val_outputs)
        self.logger.log("mean_fg_dice", scores.mean_fused_dice, self.current_epoch)
        self.logger.log("dice_per_class_or_region", list(scores.dice[1:]), self.current_epoch)
        self.logger.log("val_losses", loss, self.current_epoch)
        self.print_to_log_file(describe(scores))

    def _gather(self, outputs: list[dict[str, Any]]) -> tuple[float, FusionScores, np.ndarray]:
        """Return loss, scores and confusion matrix over all batches of all ranks."""
        if self.is_ddp:
            collected: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(collected, outputs)
            outputs = [output for rank in collected for output in rank]
        confusion = np.sum([output["confusion"] for output in outputs], axis=0)
        return float(np.mean([output["loss"] for output in outputs])), score(confusion), confusion

    def on_epoch_end(self) -> None:
        """End the epoch as nnU-Net does, and draw what the network sees every now and then."""
        super().on_epoch_end()
        every = self.settings.panel_every
        if every and self.current_epoch % every == 0 and self.current_epoch < self.num_epochs:
            self._draw_panel(Path(self.output_folder) / "panels" / f"epoch_{self.current_epoch:04d}.png")

    def _draw_panel(self, path: Path) -> None:
        if self.local_rank != 0 or self.validation_loader is None:
            return
        network = self.network.module if self.is_ddp else self.network
        network = getattr(network, "_orig_mod", network)  # a batch of one would make torch.compile compile again
        network.eval()
        cases = []
        for number in range(3):
            sample = self.validation_loader.fixed_sample(self.settings.validation_seed, number)
            with torch.no_grad():
                output = network(sample["image"][None].to(self.device))
            output = output[0] if isinstance(output, (list, tuple)) else output
            cases.append(PanelCase.from_sample(sample, output.argmax(1)[0].cpu().numpy()))
        title = f"{self.plans_manager.dataset_name}, {self.configuration_name}, epoch {self.current_epoch}"
        draw_panel(cases, self.settings.coefficients, title, path)

    def checkpoint_extras(self) -> dict[str, Any]:
        """Keep with the weights what they come from."""
        return {
            "method": "volume fusion",
            "settings": self.settings.to_mapping(),
            "data": self.data,
            "versions": versions(),
        }

    def check_resumed(self, state: dict[str, Any]) -> None:
        """Say which settings have changed since a checkpoint, and refuse another number of classes."""
        self.data = state.get("data", {})
        changes = setting_changes(state.get("settings", {}), self.settings.to_mapping())
        if "coefficients" in changes:
            old, new = changes["coefficients"]
            raise TrainingError(
                f"The checkpoint was trained with {old} coefficients and the plans say {new}, so its last layers do "
                f"not fit. Set coefficients={old} again, or start anew under another plans name "
                "(nnunet-volf settings … --as NAME)."
            )
        if changes:
            self.print_to_log_file(f"Settings changed since the checkpoint: {describe_changes(changes)}")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Score the fixed set of fusions, write pretraining_summary.json and a picture, and say what to do next."""
        if self.validation_loader is None:  # --val: nothing was trained in this process
            self._make_validation(*self.do_split())
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        self.network.eval()
        with torch.no_grad():
            outputs = [self.validation_step(next(self.dataloader_val)) for _ in range(len(self.dataloader_val))]
        loss, scores, confusion = self._gather(outputs)
        if self.local_rank != 0:
            return
        folder = Path(self.output_folder)
        about = {
            "dataset": self.plans_manager.dataset_name,
            "configuration": self.configuration_name,
            "fold": self.fold,
            "epochs": self.current_epoch,
            "data": self.data,
            "validation_cases_held_out": self.held_out,
            "validation_samples": len(self.dataloader_val) * self.configuration_manager.batch_size,
        }
        summary = summarize(scores, confusion, loss, self.settings, **about)
        write_json(folder / "pretraining_summary.json", summary)
        self._draw_panel(folder / "pretraining_panel.png")
        if save_probabilities:
            self.print_to_log_file("--npz has no meaning for pretraining and was ignored.")
        commands = commands_after_pretraining(self.plans_manager.plans, self.configuration_name, folder / FINAL)
        listed = "\n  ".join(commands)
        self.print_to_log_file(
            f"{describe(scores)}\nScores: {folder / 'pretraining_summary.json'}\n"
            f"Picture: {folder / 'pretraining_panel.png'}\n"
            f"Next, fine-tune encoder and decoder on labels:\n  {listed}"
        )
