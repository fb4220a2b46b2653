"""What all pretraining trainers share: nnU-Net's trainer, asked by a pretext instead of by labels.

A trainer names its pretext and nothing else. Cases, folds, checkpoints, resuming, logs, pictures and the summary are
the same for all pretexts, so that a user who compares them changes nothing but the pretext.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed as dist
from torch import nn

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.checkpoints import plain
from nnunet_volf.damage_watch import DamageWatch
from nnunet_volf.damaged_cases import Damage, from_plain, read_table
from nnunet_volf.damaged_cases import plain as plain_damages
from nnunet_volf.dataloading import STOP, BatchMaker, ParcelLoader, SampleLoader
from nnunet_volf.datasets import preprocess_command
from nnunet_volf.distributed import unwrapped
from nnunet_volf.durable import DurableTraining
from nnunet_volf.errors import DataError, TrainingError
from nnunet_volf.files import write_json
from nnunet_volf.labels import relabelled
from nnunet_volf.next_commands import commands_after_pretraining
from nnunet_volf.optimizers import make_optimizer
from nnunet_volf.output_folder import told_when_validating
from nnunet_volf.precision import mixed_precision
from nnunet_volf.pretext.catalogue import load_settings
from nnunet_volf.pretext.given import given_by
from nnunet_volf.pretext.on_encoder import OnEncoder
from nnunet_volf.pretext.pretext import Pretext, Scores
from nnunet_volf.provenance import continued, describe_data, versions
from nnunet_volf.ranks import alone, of_all_ranks, wait_for_all
from nnunet_volf.resumed import describe_changes, setting_changes
from nnunet_volf.splits import pretraining_split
from nnunet_volf.summary import summarize
from nnunet_volf.training_files import FINAL, PANELS, PICTURE, SUMMARY
from nnunet_volf.validation import FixedBatches, batches_of_rank

if TYPE_CHECKING:  # the class that the mixin stands in front of
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Trainer
else:
    Trainer = object

# Samples that are drawn in a picture.
SHOWN = 3


class PretextTraining(DurableTraining, Trainer):
    """A mixin for nnU-Net trainers; the subclass names its pretext.

    The settings come from the pretext's key of the configuration in the plans; labels of the dataset are never read.
    """

    pretext_class: ClassVar[type[Pretext]]

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the signature is nnU-Net's
    ) -> None:
        """Describe what the pretext asks for as the dataset's labels before nnU-Net looks at them."""
        plan = PlansManager(plans).get_configuration(configuration)
        _refuse_second_stage(configuration, plan)
        kind = load_settings(self.pretext_class.method)
        self.settings = kind.from_mapping(plan.configuration.get(kind.plans_key, {}))
        channels = dataset_json.get("channel_names") or dataset_json["modality"]
        given = given_by(plan.configuration, list(channels.values()), plans["dataset_name"])
        self.pretext = self.pretext_class(self.settings, given)
        super().__init__(plans, configuration, fold, relabelled(dataset_json, self.pretext.labels()), device)
        self.train_by(self.settings)
        self.enable_deep_supervision = self.pretext.deep_supervision
        trainer: Any = self
        trainer.build_network_architecture = self._with_pretext(trainer.build_network_architecture)
        self.make_batch: BatchMaker | None = None  # of what workers hand over; None: they hand over batches
        self.validation_loader: SampleLoader | None = None
        self.held_out = False
        self.split: tuple[list[str], list[str]] = ([], [])
        self.data: dict[str, Any] = {}  # what the weights come from; at first, what those of a resumed training did
        self.damaged_before: list[Damage] = []  # as a resumed training knew them

    def _with_pretext(self, build_unet: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        """Return a builder of this training's network; what a pretext puts on the U-Net depends on its plans."""

        @wraps(build_unet)  # nnU-Net looks at the parameters, which have changed with its versions
        def build(*arguments: Any, **named: Any) -> nn.Module:
            return self.pretext.network(build_unet(*arguments, **named))

        return build

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Use nnU-Net's SGD, or AdamW under the same polynomial decay."""
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = make_optimizer(self.settings.optimizer, parameters, self.initial_lr, self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def _build_loss(self) -> nn.Module:
        """Return the loss of the pretext."""
        return self.pretext.loss(super()._build_loss)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Split as nnU-Net does, but also where the cases are too few for five folds."""
        return pretraining_split(self, super().do_split)

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return endless samples of the training cases, and a fixed set of samples of the held-out ones."""
        # Called for its side effect: it sets the mirroring axes that nnU-Net writes into every checkpoint.
        self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        training, held_out = self.do_split()
        if self.local_rank == 0:
            self.damage.begin(self.damaged_before, Path(self.preprocessed_dataset_folder))
        wait_for_all()  # the table that they share is there
        damaged = self.damage.known()
        cases = UnlabeledCases(self.preprocessed_dataset_folder, training, left_out=damaged.found)
        sampler = self.pretext.sampler(self, training=True)
        loader = SampleLoader(cases, self.batch_size, sampler, damaged)
        if self.settings.made_on_device(self.device.type):
            loader = ParcelLoader(cases, self.batch_size, sampler, damaged)
            self.make_batch = BatchMaker(sampler, self.batch_size, self.device)
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

    @cached_property
    def damage(self) -> DamageWatch:
        """What is said and remembered of damaged cases."""
        name, plans = self.plans_manager.dataset_name, self.plans_manager.plans_name
        repair = f"{preprocess_command(name, plans)} -c {self.configuration_name}"
        return DamageWatch(Path(self.output_folder), self.settings.damaged_limit, repair, self.print_to_log_file)

    def _make_validation(self, training: list[str], held_out: list[str]) -> None:
        self.held_out = not set(training) & set(held_out)
        cases = UnlabeledCases(self.preprocessed_dataset_folder, held_out)
        self.validation_loader = SampleLoader(cases, self.batch_size, self.pretext.sampler(self), self.damage.known())
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
            seen = describe_data(cases, held_out, self.damage.known())
            self.damage.tell()
            self.data = continued({**seen, "fold": str(self.fold)}, before=self.data)
            self.print_to_log_file(f"Data: {self.data}", also_print_to_console=False)
        title = self.pretext.method.title
        self.print_to_log_file(f"Settings of {title}: {self.settings.to_mapping()}", also_print_to_console=False)
        self.print_to_log_file(
            f"Pretraining by {title}; {self.num_epochs} epochs of {self.num_iterations_per_epoch} steps. Labels of the "
            f"dataset are not used.\n{self.pretext.expectation()}"
        )
        if self.make_batch is not None:
            self.print_to_log_file(f"Batches: loader workers read and draw, {self.device} makes the samples.")
        if not self.held_out:
            self.print_to_log_file(
                "Validation samples are made from training cases (fold 'all', or too few cases to hold one out)."
            )

    def look_into(self, failure: Exception) -> None:
        """Look for files that are cut: what has mapped such a file into its memory is ended when it reads it."""
        training, held_out = self.split
        if not training:  # failed before there was anything to read
            return
        cases = UnlabeledCases(self.preprocessed_dataset_folder, [*training, *held_out])
        cut = [case for case in cases.identifiers if not cases.can_open(case)]  # another process may have noted some
        if cut:
            message = (
                f"A loader process has ended, and these cases cannot be opened any more: {', '.join(cut)}. A file in "
                f"{cases.folder} that is cut while it is read ends the process that reads it. Continue with --c, which "
                f"leaves them out; {self.damage.repair} does them again."
            )
            self.print_to_log_file(f"Stopped: {message}")
            raise DataError(message) from failure

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make the batch where that is left to the device, let the pretext do what comes before a step, and take it."""
        if self.local_rank == 0:
            self.damage.tell()
        if STOP in batch:
            self.print_to_log_file(f"Stopped: {batch[STOP]}")
            raise DataError(batch[STOP])
        if self.make_batch is not None and "data" not in batch:
            batch = self.make_batch(batch)
        self.pretext.before_step(unwrapped(self.network))
        output: dict[str, Any] = super().train_step(batch)
        return output

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the loss of a batch and what the pretext measures of it."""
        data = batch["data"].to(self.device, non_blocking=True)
        target: Any = batch["target"]
        target = [t.to(self.device) for t in target] if isinstance(target, list) else target.to(self.device)
        with mixed_precision(self.device.type):
            output = self.network(data)
            loss = self.loss(output, target)
        return {"loss": loss.cpu().numpy(), **self.pretext.measure(output, target)}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log the scores of the fixed set under nnU-Net's own names, so that its plots show them."""
        loss, scores = self._gather(val_outputs)
        self.logger.log("mean_fg_dice", scores.headline, self.current_epoch)
        self.logger.log("dice_per_class_or_region", list(scores.parts), self.current_epoch)
        self.logger.log("val_losses", loss, self.current_epoch)
        self.print_to_log_file(scores.describe())

    def _gather(self, outputs: list[dict[str, Any]]) -> tuple[float, Scores]:
        """Return loss and scores over all batches of all ranks."""
        outputs = [output for rank in of_all_ranks(outputs) for output in rank]
        return float(np.mean([output["loss"] for output in outputs])), self.pretext.score(outputs)

    def on_epoch_end(self) -> None:
        """End the epoch as nnU-Net does, and draw what the network sees every now and then."""
        super().on_epoch_end()
        if self.local_rank == 0:
            self.damage.sum_up(self.split[0])
        every = self.settings.panel_every
        if every and self.current_epoch % every == 0 and self.current_epoch < self.num_epochs:
            with self.tolerating("The picture of this epoch"):
                self._draw_panel(Path(self.output_folder) / PANELS / f"epoch_{self.current_epoch:04d}.png")

    def ways_to_wait_less(self) -> list[str]:
        """Return what would make batches come faster and is not in use."""
        ways = super().ways_to_wait_less()
        if self.device.type == "cuda" and self.make_batch is None:
            ways += ["augment_on=device"] if replace(self.settings, augment_on="device").made_on_device("cuda") else []
        if getattr(self.settings, "reuse_crops", None) is False:
            ways.append("reuse_crops=true")
        return ways

    def _draw_panel(self, path: Path) -> None:
        if self.local_rank != 0 or self.validation_loader is None:
            return
        network = unwrapped(self.network)  # a batch of one would make torch.compile compile again
        network.eval()
        samples = [self.validation_loader.fixed_sample(self.settings.validation_seed, n) for n in range(SHOWN)]
        with torch.no_grad(), alone():
            outputs = [plain(network(sample["image"][None].to(self.device))) for sample in samples]
        title = f"{self.plans_manager.dataset_name}, {self.configuration_name}, epoch {self.current_epoch}"
        self.pretext.draw(samples, outputs, title, path)

    def checkpoint_extras(self) -> dict[str, Any]:
        """Keep with the weights what they come from, which of them were trained, and the head if there is one."""
        network = unwrapped(self.network)
        return {
            "method": self.pretext.method.label,
            "transfers": list(self.pretext.method.transfers),
            "settings": self.settings.to_mapping(),
            "data": self.data,
            "damaged": plain_damages(read_table(self.damage.table)),
            "versions": versions(),
            **({"head": network.head.state_dict()} if isinstance(network, OnEncoder) else {}),
        }

    def load_extras(self, state: Mapping[str, Any]) -> None:
        """Load the head of a resumed training."""
        network = unwrapped(self.network)
        if isinstance(network, OnEncoder) and "head" in state:
            network.head.load_state_dict(state["head"])

    def check_resumed(self, state: dict[str, Any]) -> None:
        """Say which settings have changed since a checkpoint, and refuse those that shape the network."""
        self.data = state.get("data", {})
        self.damaged_before = from_plain(state.get("damaged", ()))
        changes = setting_changes(state.get("settings", {}), self.settings.to_mapping())
        unfit = {name: change for name, change in changes.items() if name in self.pretext.refused_changes}
        if unfit:
            back = " ".join(f"{name}={old}" for name, (old, _) in unfit.items())
            raise TrainingError(
                f"The plans have changed since the checkpoint: {describe_changes(unfit)}. Its last layers do not fit. "
                f"Set {back} again, or start anew under another plans name (nnunet-volf settings … --as NAME)."
            )
        if changes:
            self.print_to_log_file(f"Settings changed since the checkpoint: {describe_changes(changes)}")

    @told_when_validating
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Score the fixed set of samples, write a summary and a picture, and say what to do next."""
        if self.validation_loader is None:  # --val: nothing was trained in this process
            self._make_validation(*self.do_split())
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        self.network.eval()
        with torch.no_grad():
            outputs = [self.validation_step(next(self.dataloader_val)) for _ in range(len(self.dataloader_val))]
        loss, scores = self._gather(outputs)
        if self.local_rank != 0:
            return
        folder = Path(self.output_folder)
        about = {
            "method": self.pretext.method.label,
            "dataset": self.plans_manager.dataset_name,
            "configuration": self.configuration_name,
            "fold": self.fold,
            "epochs": self.current_epoch,
            "data": self.data,
            "damaged_cases": self.damage.finish(),
            "validation_cases_held_out": self.held_out,
            "validation_samples": len(self.dataloader_val) * self.configuration_manager.batch_size,
        }
        write_json(folder / SUMMARY, summarize(scores, loss, self.settings, **about))
        self._draw_panel(folder / PICTURE)
        if save_probabilities:
            self.print_to_log_file("--npz has no meaning for pretraining and was ignored.")
        commands = commands_after_pretraining(self.plans_manager.plans, self.configuration_name, folder / FINAL)
        listed = "\n  ".join(commands)
        self.print_to_log_file(
            f"{scores.describe()}\nScores: {folder / SUMMARY}\n"
            f"Picture: {folder / PICTURE}\n"
            f"Next, fine-tune {' and '.join(self.pretext.method.transfers)} on labels:\n  {listed}"
        )


def _refuse_second_stage(configuration: str, plan: ConfigurationManager) -> None:
    if plan.previous_stage_name is not None:
        raise TrainingError(
            f"{configuration} is the second stage of a cascade: its input holds the segmentation of "
            f"{plan.previous_stage_name}, which unlabeled images do not have. Pretrain 3d_fullres or 3d_lowres instead."
        )
