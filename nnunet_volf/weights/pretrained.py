"""What a file of weights is, whoever wrote it: tensors under one name each, and all that is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Preparation:
    """How images were prepared before the network saw them; axes as the network has them."""

    channels: tuple[str, ...]
    normalization: tuple[str, ...]  # a scheme a channel, as nnU-Net's plans name them
    spacing: tuple[float, ...]  # mm
    patch: tuple[int, ...]
    intensities: tuple[Mapping[str, float], ...] = ()  # a channel: mean, std, percentile_00_5 ...; where known


@dataclass(frozen=True)
class Architecture:
    """A network's class and arguments, as nnU-Net's plans hold them."""

    class_name: str
    arguments: Mapping[str, Any]
    needs_import: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pretrained:
    """A file of weights; what its writer did not record is ``None`` or empty."""

    path: Path
    kind: str  # which kind of file: "nnunet-volf", "nnU-Net", "nnssl" or "state dict"
    opened: (
        str  # how: "plain" (tensors and plain types), "restricted" (other types ignored) or "trusted" (any code run)
    )
    tensors: Mapping[str, Tensor]  # by canonical name, heads included
    stored: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # what nnU-Net finds under network_weights
    trainer: str | None = None
    method: str | None = None
    trained: tuple[str, ...] = ()  # the parts that its training reached, such as ("encoder",); empty: all
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    configuration: str | None = None
    epochs: int | None = None
    preparation: Preparation | None = None
    architecture: Architecture | None = None
    plans: Mapping[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)  # cases, content: how many and a hash of what they hold
    versions: Mapping[str, str] = field(default_factory=dict)
    started_from: Mapping[str, Any] = field(default_factory=dict)  # what a fine-tuning did: file, method ...
    citations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what a user should know: prefixes that were removed, types that were ignored ...

    @property
    def parameters(self) -> int:
        """The number of values in all tensors."""
        return sum(tensor.numel() for tensor in self.tensors.values())
