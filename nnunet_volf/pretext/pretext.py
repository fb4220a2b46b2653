"""The one seam between a pretext task and everything that all pretrainings share.

A pretext is asked, in this order: what it needs (`__init__` refuses early), which labels stand in for the dataset's,
how samples are made, what is put on the U-Net, which loss learns it, how well that goes, and how it looks. It knows no
file and no checkpoint. ``docs/add-a-pretext.md`` lists what a new one consists of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import nn

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.parcels import Parcel
from nnunet_volf.pretext.catalogue import Method
from nnunet_volf.pretext.given import Given

# ``image`` (c, ...), ``target`` (a tensor, or a list of them for deep supervision), ``keys``; and what a panel shows.
Sample = dict[str, Any]
Measures = Mapping[str, Any]


class Sampler(ABC):
    """Makes samples, in two halves; all that a loader worker needs, and picklable.

    What workers collect is made into samples by them, or by the device of the training where that is faster. So
    nothing may be drawn in `make`, and nothing may leave the device.
    """

    def draw(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> list[Sample]:
        """Return one sample of a case, or several that share work."""
        return self.make(self.collect(rng, cases, identifier))

    @abstractmethod
    def collect(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> Parcel:
        """Read the crops that these samples take, and draw all that is random."""

    @abstractmethod
    def make(self, parcel: Parcel) -> list[Sample]:
        """Return the samples, on the device where the crops are."""


class Scores(Protocol):
    """How well a network does what a pretext asks for."""

    @property
    def headline(self) -> float:
        """0 for a network that has learnt nothing, 1 for one that makes no mistake; chooses the best checkpoint."""

    @property
    def parts(self) -> tuple[float, ...]:
        """The numbers that nnU-Net prints as its pseudo Dice of each class."""

    def describe(self) -> str:
        """Say in a sentence or two how the pretraining is doing."""

    def to_mapping(self) -> dict[str, Any]:
        """Return all numbers as plain data."""


class Pretext(ABC):
    """One pretext task, with its settings, on what is given."""

    method: ClassVar[Method]
    deep_supervision: ClassVar[bool] = False
    refused_changes: ClassVar[tuple[str, ...]] = ()  # settings that shape the network; a resumed training keeps them

    def __init__(self, settings: Any, given: Given) -> None:
        """Take settings and what is given, or refuse what cannot work."""
        self.settings = settings
        self.given = given

    def labels(self) -> dict[str, int]:
        """Return the labels that stand in for the dataset's; the U-Net gets an output for each."""
        return {"background": 0}

    @abstractmethod
    def sampler(self, trainer: Any = None, training: bool = False) -> Sampler:
        """Return how samples are made.

        Args:
            trainer: nnU-Net's, where samples are for one; it knows the scales of deep supervision and nnU-Net's own
                augmentation.
            training: whether samples are augmented as for training; otherwise as for validation and previews.
        """

    def network(self, unet: nn.Module) -> nn.Module:
        """Return what is trained: the U-Net, or `OnEncoder` with a head."""
        return unet

    @abstractmethod
    def loss(self, nnunets: Callable[[], nn.Module]) -> nn.Module:
        """Return the loss of (output, target); `nnunets` makes nnU-Net's own."""

    def before_step(self, network: nn.Module) -> None:  # noqa: B027 - most pretexts have nothing to do
        """Do what comes before each training step, on the network as `network` returned it."""

    @abstractmethod
    def measure(self, output: Any, target: Any) -> Measures:
        """Return what `score` needs of one batch, as arrays."""

    @abstractmethod
    def score(self, measures: Sequence[Measures]) -> Scores:
        """Return the scores over batches."""

    @abstractmethod
    def expectation(self) -> str:
        """Say what is done, and what a healthy run looks like."""

    @abstractmethod
    def draw(self, samples: Sequence[Sample], outputs: Sequence[Any] | None, title: str, path: Path) -> None:
        """Draw samples, and what the network made of each, where it was asked; output i is for sample i alone."""

    @abstractmethod
    def preview(self, seed: int) -> list[str]:
        """Return lines about what samples will be like."""
