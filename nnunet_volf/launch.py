"""Start or continue a pretraining with stock ``nnUNetv2_train``, as a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from nnunet_volf.console import program, wait
from nnunet_volf.errors import TrainingError
from nnunet_volf.files import read_json
from nnunet_volf.plans import PlannedDataset
from nnunet_volf.pretext.catalogue import DEFAULT_METHOD, METHODS, Method, load_settings
from nnunet_volf.pretext.settings import PretrainingSettings
from nnunet_volf.training_files import EXIT_REQUEUE, FINAL, LATEST, PICTURE

PRETRAINERS = tuple(method.trainer for method in METHODS.values())

_ENTRY = program("nnunetv2.run.run_training", "run_training_entry")
_FORWARDED = ("SIGTERM", "SIGUSR1", "SIGHUP")  # Ctrl-C reaches the whole process group by itself


@dataclass(frozen=True)
class Training:
    """A pretraining, by what names its output folder, and how it is run."""

    dataset: PlannedDataset
    configuration: str
    plans_name: str
    fold: str
    device: str
    gpus: int
    method: Method = METHODS[DEFAULT_METHOD]

    @property
    def folder(self) -> Path:
        """Where nnU-Net keeps its checkpoints."""
        root = os.environ.get("nnUNet_results")
        if not root:
            raise TrainingError("nnUNet_results is not set. Set it to where nnU-Net keeps trained models.")
        name = f"{self.method.trainer}__{self.plans_name}__{self.configuration}"
        return Path(root) / self.dataset.name / name / f"fold_{self.fold}"

    @property
    def finished(self) -> Path | None:
        """The final checkpoint, once it is there and scored."""
        final = self.folder / FINAL
        return final if final.is_file() and (self.folder / PICTURE).is_file() else None

    @property
    def cases(self) -> int:
        """The number of cases that the dataset had when the training last started."""
        description = read_json(self.folder.parent / "dataset.json")
        return int(description["numTraining"])

    @property
    def settings(self) -> PretrainingSettings:
        """The settings that the training last started with."""
        plans = read_json(self.folder.parent / "plans.json")
        return replace(self.dataset, plans=plans).settings_of(load_settings(self.method), self.configuration)

    def arguments(self) -> list[str]:
        """Return the arguments of nnUNetv2_train; a training that was begun is continued, one that is done scored."""
        known = [str(self.dataset.number), self.configuration, self.fold, "-p", self.plans_name]
        trainer = ["-tr", self.method.trainer]
        device = [] if self.device == "cuda" else ["-device", self.device]
        gpus = [] if self.gpus == 1 else ["-num_gpus", str(self.gpus)]
        done, begun = ((self.folder / name).is_file() for name in (FINAL, LATEST))
        return [*known, *trainer, *device, *gpus, *(["--val"] if done else ["--c"] if begun else [])]

    def command(self) -> str:
        """Return the command as a user would type it."""
        return shlex.join(["nnUNetv2_train", *self.arguments()])

    def run(self) -> int:
        """Run the training and return its exit code: 75 says that it was stopped, and goes on when started again."""
        child = subprocess.Popen([sys.executable, "-c", _ENTRY, *self.arguments()])
        received: list[int] = []

        def forward(number: int, frame: FrameType | None) -> None:
            received.append(number)
            child.send_signal(number)

        forwarded = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
        before = {number: signal.signal(number, forward) for number in forwarded}
        try:
            code = wait(child)
            # Before its first step a training does not listen to signals yet; there is nothing to save either.
            if -code in received:
                return EXIT_REQUEUE
            return code if code >= 0 else 128 - code  # as a shell says it; 137 is mostly the end of the memory
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def trainings_with(dataset: str, plans_name: str, trainers: Sequence[str] = PRETRAINERS) -> list[Path]:
    """Return the checkpoints of all trainings of a dataset with the plans of a name, of any configuration and fold.

    They are our pretrainings, or those of other `trainers`; "*" is any.
    """
    root = os.environ.get("nnUNet_results")
    if not root:
        return []
    patterns = (f"{dataset}/{trainer}__{plans_name}__*/fold_*/checkpoint_*.pth" for trainer in trainers)
    return sorted(path for pattern in patterns for path in Path(root).glob(pattern))
