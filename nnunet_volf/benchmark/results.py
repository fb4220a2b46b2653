"""What is known of one training once it is done: how well each test case was segmented, and how it got there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# The metrics of a case and class, and whether more of it is better. Distances are in mm.
METRICS = {"dice": True, "nsd": True, "hd95": False, "assd": False}
METRIC_NAMES = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95 (mm)", "assd": "ASSD (mm)"}


@dataclass(frozen=True)
class Run:
    """What tells one training of the experiment from all others."""

    arm: str
    labels: int  # labelled cases that it trains on
    seed: int
    fold: int
    rate: float = 1.0  # factor of the arm's own learning rate

    @property
    def name(self) -> str:
        """The name of its folder."""
        rate = "" if self.rate == 1 else f"_rate{self.rate:g}"
        return f"{self.arm}_{self.labels}labels_seed{self.seed}_fold{self.fold}{rate}"


@dataclass(frozen=True)
class Score:
    """How well one class of one test case was segmented; None where neither truth nor prediction has the class."""

    case: str
    label: str
    dice: float | None
    nsd: float | None
    hd95: float | None
    assd: float | None


@dataclass(frozen=True)
class Outcome:
    """A finished training."""

    run: Run
    training_cases: tuple[str, ...]
    scores: tuple[Score, ...]
    curve: tuple[float, ...]  # mean Dice of the validation cases after each epoch
    seconds: float
    conditions: Mapping[str, Any]

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Outcome:
        """Read what `to_mapping` returned."""
        return cls(
            run=Run(**values["run"]),
            training_cases=tuple(values["training_cases"]),
            scores=tuple(Score(**score) for score in values["scores"]),
            curve=tuple(values["curve"]),
            seconds=values["seconds"],
            conditions=values["conditions"],
        )


@dataclass(frozen=True)
class Failure:
    """A training that ended without a result."""

    run: Run
    reason: str
    log: str  # the file with all that it said
