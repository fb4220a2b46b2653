"""What a training started from: whether weights were loaded at all, which, and how to say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nnunet_volf.distributed import unwrapped
from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.briefing import brief
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.target import Task

SCRATCH = (
    "No pretrained weights: this is the scratch arm, with the same schedule and everything else as with them. "
    "Name a file with -pretrained_weights to fine-tune."
)


class LoadingWatch:
    """Notes whether weights are loaded into a network, whoever does it."""

    def __init__(self, network: nn.Module) -> None:
        self.happened = False
        inner: Any = unwrapped(network)  # torch has no types for this hook
        self._hook = inner.register_load_state_dict_post_hook(self._note)

    def _note(self, _module: nn.Module, _keys: object) -> None:
        self.happened = True

    def stop(self) -> bool:
        """Watch no longer, and say whether weights were loaded."""
        self._hook.remove()
        return self.happened


@dataclass(frozen=True)
class Start:
    """What is known about the weights that a training starts from."""

    record: dict[str, Any]  # what its checkpoints keep
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def look_before_loading(file: Path, task: Task) -> Start:
    """Say what a file of weights is, or why nnU-Net cannot load it into a task's network and what to do."""
    pretrained = read_pretrained(file)
    briefing = brief(pretrained, task)
    if not briefing.fits:
        raise WeightsError(briefing.problem)
    about = {
        "file": file.name,
        "kind": pretrained.kind,
        "trainer": pretrained.trainer,
        "method": pretrained.method,
        "trained": " and ".join(pretrained.trained) or None,
        "dataset": pretrained.dataset,
        "content": pretrained.data.get("content"),
    }
    known = {name: value for name, value in about.items() if value is not None}
    return Start(known, briefing.lines, briefing.warnings)


def describe(started_from: Mapping[str, Any] | None) -> str:
    """Say in one line what a resumed training once started from."""
    if started_from is None:
        return "It started without pretrained weights, as a scratch arm."
    known = ", ".join(f"{name} {value}" for name, value in started_from.items())
    return f"It started from pretrained weights: {known or 'a file that is not known'}."
