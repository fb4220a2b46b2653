"""What the user asks an import to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from nnunet_volf.datasets import dataset_number

from .channels import ChannelRule
from .dicom_series import DicomPolicy

SOURCES = "import/sources.txt"  # in a raw dataset: the archives that it was imported from


@dataclass(frozen=True)
class Policy:
    """How images are read, where opinions differ; a change of it makes an import look again."""

    channels: tuple[ChannelRule, ...]
    time: str = "refuse"  # a fourth axis: refuse, first, mean
    dicom: DicomPolicy = field(default_factory=DicomPolicy)


@dataclass(frozen=True)
class Request:
    """What is to be imported, where to, and how."""

    source: str
    dataset: str  # Dataset501_Archive
    policy: Policy
    grids: str = "refuse"  # channels of a subject on different grids: refuse, resample
    protected: tuple[str, ...] = ()  # raw datasets whose images must not be pretrained on
    keep_known: bool = False
    most_refused: float = 0.5
    retry: bool = False  # look again at what was refused, though it has not changed
    workers: int = 1
    memory: int | None = None  # bytes for all workers together

    @property
    def number(self) -> int:
        """Return 501 for ``Dataset501_Archive``."""
        return dataset_number(self.dataset)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels."""
        return tuple(rule.name for rule in self.policy.channels)
