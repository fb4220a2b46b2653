"""The folder that a training writes to: no second training writes there, and its disk may be full or gone for a while.

A picture or a line of the log that cannot be written ends no training, nor does a checkpoint that is tried again later.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nnunet_volf.distributed import DistributedTraining
from nnunet_volf.errors import StorageError, TrainingError
from nnunet_volf.files import UNFINISHED, remove_unfinished
from nnunet_volf.locks import only_one
from nnunet_volf.storage_errors import require_writable, told_of_folder
from nnunet_volf.training_files import BEST, LATEST, PANELS

if TYPE_CHECKING:  # the class that the mixin stands in front of
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Trainer
else:
    Trainer = object

LOCK = ".lock"
_LEAVING_SECONDS = 5.0  # for a training that was told to stop and is about to end


Validate = TypeVar("Validate", bound=Callable[..., None])


def told_when_validating(validate: Validate) -> Validate:
    """Say of a training whose validation finds no room that it is done all the same."""

    @wraps(validate)
    def told(trainer: Any, *arguments: Any, **named: Any) -> None:
        try:
            with told_of_folder(Path(trainer.output_folder)):
                validate(trainer, *arguments, **named)
        except StorageError as error:
            raise TrainingError(
                f"The training is done, and its validation was not written. {error.what} Make room, and the same "
                "nnUNetv2_train command with --val, in place of --c, does what is missing."
            ) from error

    return cast(Validate, told)


class OutputFolder(DistributedTraining, Trainer):
    """A mixin for nnU-Net trainers: what happens to a training whose files cannot be written."""

    def initialize(self) -> None:
        """Initialize as nnU-Net does, and have its picture of the progress replaced whole or not at all."""
        super().initialize()
        draw: Callable[[str], None] = self.logger.plot_progress_png

        def draw_aside(folder: str) -> None:
            with self.tolerating("progress.png"), TemporaryDirectory(UNFINISHED, ".progress_", folder) as aside:
                draw(aside)
                for picture in Path(aside).iterdir():
                    picture.replace(Path(folder) / picture.name)
            gc.collect()  # each picture is 65 MB in reference cycles, which Python leaves lying for long

        logger: Any = self.logger
        logger.plot_progress_png = draw_aside

    @contextlib.contextmanager
    def alone_in_folder(self) -> Iterator[None]:
        """Train while no other process trains into this folder; without checkpoints, none gets in another's way."""
        folder = Path(self.output_folder)
        if self.local_rank != 0 or self.disable_checkpointing:
            yield
            return
        with only_one(folder / LOCK, f"Another training into {folder}", _LEAVING_SECONDS):
            for place in (folder, folder / PANELS):
                remove_unfinished(place)  # of trainings that were killed
            yield

    @contextlib.contextmanager
    def tolerating(self, what: str) -> Iterator[None]:
        """Go on where something cannot be written that the training can do without."""
        try:
            with told_of_folder(Path(self.output_folder)):
                yield
        except StorageError as error:
            self.print_to_log_file(f"WARNING: {what} was not written. {error.what} The training goes on.")

    def on_train_start(self) -> None:
        """Start as nnU-Net does, which empties plans.json before it writes it, once something can be written there."""
        if self.local_rank == 0:
            require_writable(Path(self.output_folder))
        with told_of_folder(Path(self.output_folder)):
            super().on_train_start()

    def what_is_saved(self) -> str:
        """Say what a training can go on from that could not be saved."""
        saved = [name for name in (LATEST, BEST) if (Path(self.output_folder) / name).is_file()]
        if not saved:
            return "There is none before it: make room, and start the training again."
        return (
            f"{saved[0]}, written before, is whole: make room, and the same nnUNetv2_train command with --c does again "
            "what came after it."
        )

    def on_train_end(self) -> None:
        """Finish as nnU-Net does, or say what is there where the last checkpoint cannot be written."""
        try:
            super().on_train_end()
        except StorageError as error:
            raise TrainingError(f"The final checkpoint was not written. {error.what} {self.what_is_saved()}") from error

    @told_when_validating
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does."""
        super().perform_actual_validation(save_probabilities)

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Say it as nnU-Net does; what cannot be said, as the disk of the output is full, ends nothing."""
        with contextlib.suppress(OSError):
            super().print_to_log_file(*args, also_print_to_console=also_print_to_console, add_timestamp=add_timestamp)
