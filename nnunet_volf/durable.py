"""What a long training owes its user: nothing done is lost.

`DurableTraining` goes in front of nnU-Net's trainer class. It saves by the clock as well as by the epoch, also within
an epoch; leaves in good order when a scheduler asks; falls back to the file before when the newest is damaged; and
skips steps whose loss is not finite. With a single-process loader (``nnUNet_n_proc_DA=0``) a training that was killed
and resumed ends in the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import nn

from nnunet_volf import checkpoints, cpu_use
from nnunet_volf.environment import variable
from nnunet_volf.errors import StorageError, TrainingError
from nnunet_volf.finite_loss import FiniteLoss, NonFiniteLoss
from nnunet_volf.machine import usable_cpus
from nnunet_volf.orphans import forked_end_with_us
from nnunet_volf.output_folder import OutputFolder
from nnunet_volf.progress import describe_progress
from nnunet_volf.randomness import capture_global_state, restore_global_state
from nnunet_volf.ranks import any_rank, highest, of_all_ranks, ranks_on_this_machine, wait_for_all
from nnunet_volf.step_times import StepTimes
from nnunet_volf.training_files import BEST, EXIT_REQUEUE, FINAL, LATEST, PREVIOUS

if TYPE_CHECKING:  # the class that the mixin stands in front of
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Trainer
else:
    Trainer = object

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))

# Where a checkpoint of ours keeps what nnU-Net's own does not have.
STATE_KEY = "nnunet_volf"

_SAVE, _LEAVE = 1, 2  # what a pause between two steps can be for; the higher comes first


class DurableTraining(OutputFolder, Trainer):
    """A mixin for nnU-Net trainers; the subclass calls `train_by` with its settings when it is made."""

    save_every_minutes: float = 15.0  # 0: by epochs only
    nonfinite_limit: int = 25
    cpu_precision: str = "auto"
    iteration: int = 0  # steps done in the current epoch

    stop_signal: int | None = None
    nonfinite_steps: int = 0  # in the current epoch
    epoch_outputs: list[dict[str, Any]] | None = None  # of the steps done in the current epoch; None between epochs
    random_state: dict[str, Any] | None = None  # of a loaded checkpoint, until the training goes on
    last_save: float = 0.0
    best_saved: float | None = None  # what the best checkpoint that is on the disk has reached
    times: StepTimes  # of the current epoch
    epoch_started: float  # in this process

    def train_by(self, settings: Any) -> None:
        """Take over what the settings of every training say: its length, its rate, and how often it is saved."""
        self.num_epochs = settings.epochs
        self.num_iterations_per_epoch = settings.iterations
        self.initial_lr = settings.peak_learning_rate
        self.weight_decay = settings.weight_decay
        self.save_every = settings.save_every_epochs
        self.save_every_minutes = settings.save_every_minutes
        self.nonfinite_limit = settings.nonfinite_limit
        self.cpu_precision = settings.cpu_precision

    def initialize(self) -> None:
        """Guard the loss, and have the network compute as fast as this CPU can where there is no GPU."""
        super().initialize()
        self.loss: nn.Module = FiniteLoss(self.loss)
        cpu_use.fit_network(self.network, self.device.type, self.cpu_precision)

    def on_train_start(self) -> None:
        """Start as nnU-Net does, with no more loader processes than this training has CPUs."""
        ranks = ranks_on_this_machine()
        processes = cpu_use.loader_processes(self.device.type, ranks, get_allowed_n_proc_DA())
        with variable("nnUNet_n_proc_DA", str(processes)), forked_end_with_us():
            try:
                super().on_train_start()
            except RuntimeError as error:  # nnU-Net takes the first batch already
                self.look_into(error)
                raise

    def run_training(self) -> None:
        """Train as nnU-Net does, step by step so that it can stop and go on at any step."""
        with self.alone_in_folder():
            self._train()

    def _train(self) -> None:
        self.on_train_start()
        if self.random_state is not None:  # after the loaders, whose start draws random numbers
            restore_global_state(self.random_state)
            self.random_state = None
        self.last_save = monotonic()
        handlers = self._listen_for_signals()
        try:
            while self.current_epoch < self.num_epochs:
                self.on_epoch_start()
                self._train_epoch()
                self._validate_epoch()
                self.on_epoch_end()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self.on_train_end()

    def _train_epoch(self) -> None:
        self.on_train_epoch_start()
        self.epoch_outputs = self.epoch_outputs or []
        while self.iteration < self.num_iterations_per_epoch:
            batch = self._next_batch()
            with self.times.step():
                self.epoch_outputs.append(self.train_step(batch))
            self.iteration += 1
            self._pause_point()
        taken = [output for output in self.epoch_outputs if np.isfinite(output["loss"])]
        if not taken:
            raise TrainingError(
                f"Not one step of epoch {self.current_epoch} had a finite loss. The log names the cases of each; look "
                "at those first, or lower learning_rate, and continue with --c."
            )
        self.on_train_epoch_end(taken)

    def _validate_epoch(self) -> None:
        with torch.no_grad():
            self.on_validation_epoch_start()
            batches = range(self.num_val_iterations_per_epoch)
            outputs = [self.validation_step(self._batch_of(self.dataloader_val)) for _ in batches]
            self.on_validation_epoch_end(outputs)
        self.epoch_outputs = None
        self.iteration = 0

    def _next_batch(self) -> Any:
        with self.times.waiting():
            return self._batch_of(self.dataloader_train)

    def _batch_of(self, loader: Any) -> Any:
        batch = None
        try:
            batch = next(loader)
        except Exception as error:
            # A scheduler's signal reaches the loader's workers too, and they may be gone before we look.
            if self.stop_signal is None or not isinstance(error, RuntimeError):
                self.look_into(error)
                raise
        if any_rank(batch is None, self.device):
            self._leave()
        return batch

    def look_into(self, failure: Exception) -> None:
        """Raise something better than that a loader has failed, where a subclass can tell why."""

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take one step, or skip it when its loss is not finite."""
        try:
            output: dict[str, Any] = super().train_step(batch)
        except NonFiniteLoss as problem:
            self.nonfinite_steps += 1
            self.print_to_log_file(
                f"Step {self.iteration} of epoch {self.current_epoch} skipped: {problem}; cases {batch.get('keys')}."
            )
            if self.nonfinite_steps > self.nonfinite_limit:
                raise TrainingError(
                    f"{self.nonfinite_steps} steps of epoch {self.current_epoch} had a loss that is not finite; the "
                    f"limit (nonfinite_limit) is {self.nonfinite_limit}. The log names their cases: look at those "
                    "first. If it is many different ones, lower learning_rate and continue with --c."
                ) from problem
            return {"loss": np.nan}
        return output

    def on_train_epoch_start(self) -> None:
        """Count skipped steps and waiting from zero."""
        self.nonfinite_steps = 0
        self.times = StepTimes(self.device)
        super().on_train_epoch_start()

    def on_epoch_start(self) -> None:
        """Start as nnU-Net does, and note the time by a clock that does not jump."""
        super().on_epoch_start()
        self.epoch_started = monotonic()

    def on_epoch_end(self) -> None:
        """End the epoch as nnU-Net does, and say how long the rest will take."""
        # nnU-Net takes the length of an epoch from a clock that may be set while it lasts, and keeps it.
        self.logger.get_value("epoch_start_timestamps", step=None)[-1] = time() - (monotonic() - self.epoch_started)
        super().on_epoch_end()
        ends, starts = (self.logger.get_value(f"epoch_{when}_timestamps", step=None) for when in ("end", "start"))
        durations = [end - start for end, start in zip(ends, starts, strict=True)]
        epochs_left = self.num_epochs - self.current_epoch
        waited, step, gpu = self.times.waited, self.times.median_step, self.times.gpu_share
        self.print_to_log_file(describe_progress(durations, epochs_left, waited, step, gpu, self.ways_to_wait_less()))

    def ways_to_wait_less(self) -> list[str]:
        """Return what would make batches come faster and is not in use."""
        ranks = ranks_on_this_machine()
        workers = getattr(self.dataloader_train, "num_processes", 0)
        spare = usable_cpus().value // ranks - 1 > workers
        return [f"more loader workers (nnUNet_n_proc_DA, now {workers})"] if spare else []

    def _pause_point(self) -> None:
        """Save when it is time, leave when asked to: all ranks, or none; the time is that of rank 0."""
        due = self.local_rank == 0 and monotonic() - self.last_save > 60 * self.save_every_minutes > 0
        asked = highest(_LEAVE if self.stop_signal is not None else _SAVE if due else 0, self.device)
        if asked == _LEAVE:
            self._leave()
        if asked == _SAVE and self.iteration < self.num_iterations_per_epoch:
            self.save_checkpoint(self._file(LATEST))

    def _leave(self) -> None:
        """Save, shut down and exit with a code that a scheduler can requeue on."""
        name = signal.Signals(self.stop_signal).name if self.stop_signal is not None else "a signal to another rank"
        try:
            self._save(Path(self._file(LATEST)))
        except StorageError as error:
            raise TrainingError(
                f"Stopped by {name} after step {self.iteration} of epoch {self.current_epoch}, and that was not saved. "
                f"{error.what} {self.what_is_saved()}"
            ) from error
        self.print_to_log_file(
            f"Stopped by {name} after step {self.iteration} of epoch {self.current_epoch}. Everything is saved; the "
            f"same nnUNetv2_train command with --c goes on from here. Exit code {EXIT_REQUEUE}."
        )
        for loader in (self.dataloader_train, self.dataloader_val):
            if isinstance(loader, NonDetMultiThreadedAugmenter):
                loader._finish()
        wait_for_all()  # a launcher stops the others as soon as one process has ended, and rank 0 is still saving
        raise SystemExit(EXIT_REQUEUE)

    def _listen_for_signals(self) -> dict[int, Any]:
        """Note stop signals from now on; return the handlers that were in place."""
        owner = os.getpid()

        def note(number: int, _frame: object) -> None:
            if os.getpid() != owner:  # a process forked from this one, which nobody means to keep alive
                raise SystemExit(EXIT_REQUEUE)
            self.stop_signal = number

        try:
            return {number: signal.signal(number, note) for number in STOP_SIGNALS}
        except ValueError:  # not in the main thread: whoever called us keeps the signals
            return {}

    def save_checkpoint(self, filename: str) -> None:
        """Save, or go on where the disk does not let it and there will be another time to save."""
        path = Path(filename)
        try:
            self._save(path)
        except StorageError as error:
            if path.name == FINAL:
                raise
            kept = "The one before it is whole. " if path.is_file() else ""
            self.print_to_log_file(
                f"WARNING: {path.name} was not written. {error.what} {kept}The training goes on and tries again when "
                "it next saves."
            )
            self._best_ema = self.best_saved  # or only a better one would be tried again
        else:
            self.best_saved = self._best_ema if path.name == BEST else self.best_saved
        self.last_save = monotonic()

    def _save(self, path: Path) -> None:
        """Write the checkpoint nnU-Net would write, plus what is needed to go on from this very step, atomically."""
        if self.disable_checkpointing:
            super().save_checkpoint(str(path))
            return
        own = {"epoch_outputs": checkpoints.plain(self.epoch_outputs), "random_state": capture_global_state()}
        first, *others = of_all_ranks(own)
        if self.local_rank != 0:
            return
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        buffer.seek(0)
        checkpoint = checkpoints.plain(torch.load(buffer, map_location="cpu", weights_only=False))
        if self.epoch_outputs is not None:  # within an epoch: nnU-Net would start the next one
            checkpoint["current_epoch"] = self.current_epoch
            checkpoint["logging"] = {k: v[: self.current_epoch] for k, v in checkpoint["logging"].items()}
        checkpoint[STATE_KEY] = {
            "iteration": self.iteration,
            **first,
            "other_ranks": others,
            **checkpoints.plain(self.checkpoint_extras()),
        }
        previous = path.with_name(PREVIOUS) if path.name == LATEST else None
        checkpoints.write_checkpoint(path, checkpoint, keep_as=previous)

    def checkpoint_extras(self) -> dict[str, Any]:
        """Return what a subclass wants to find in its checkpoints: plain types and tensors."""
        return {}

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Load a checkpoint; when the file is damaged, the newest good one beside it."""
        source, state = filename_or_checkpoint, {}
        if isinstance(source, str):
            wanted = Path(source)
            beside = (LATEST, PREVIOUS, BEST)
            candidates = dict.fromkeys([wanted, *(wanted.with_name(name) for name in beside)])
            path, checkpoint, problems = checkpoints.read_newest(list(candidates))
            for problem in problems:
                self.print_to_log_file(f"WARNING: {problem}")
            self.print_to_log_file(f"Loading {path}")
            source, state = str(path), checkpoint.get(STATE_KEY, {})
            self.check_resumed(state)
        super().load_checkpoint(source)  # by name: nnU-Net 2.8.1 fails on a dictionary
        self.best_saved = self._best_ema
        for group in self.optimizer.param_groups:  # which came with the checkpoint; the rate is set at each epoch
            group["weight_decay"] = self.weight_decay
        self.load_extras(state)
        self.iteration = state.get("iteration", 0)
        of_ranks = [state, *state.get("other_ranks", ())]
        if self.local_rank < len(of_ranks):
            state = of_ranks[self.local_rank]
            self.random_state = state.get("random_state")  # else there were fewer ranks: this one draws anew
        self.epoch_outputs = state.get("epoch_outputs")
        if len(set(of_all_ranks((self.current_epoch, self.iteration)))) > 1:
            raise TrainingError(
                f"The processes have read different checkpoints in {self.output_folder}. All machines need the same "
                "nnUNet_results: a folder that they share."
            )

    def load_extras(self, state: Mapping[str, Any]) -> None:
        """Load what a subclass has kept in a checkpoint beside what nnU-Net keeps."""

    def check_resumed(self, state: dict[str, Any]) -> None:
        """Compare what a subclass kept in a checkpoint with what it is now, before anything is loaded."""

    def on_train_end(self) -> None:
        """Finish as nnU-Net does, and remove the second last checkpoint as it removes the last."""
        super().on_train_end()
        if self.local_rank == 0:
            Path(self._file(PREVIOUS)).unlink(missing_ok=True)
        wait_for_all()  # what comes next may read what rank 0 has just written

    def _file(self, name: str) -> str:
        return str(Path(self.output_folder) / name)
