"""The question that a benchmark asks, as data: it decides every training, and a folder of results holds only one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from nnunet_volf.benchmark.arms import Arm
from nnunet_volf.benchmark.results import Run


@dataclass(frozen=True)
class Cases:
    """The labelled cases of a fold: tested on, watched during training, and drawn from for training."""

    test: tuple[str, ...]
    validation: tuple[str, ...]
    pool: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """Everything that decides what comes out, but for the machine."""

    dataset: str
    plans_name: str
    configuration: str
    arms: tuple[Arm, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]  # factors of each arm's own learning rate
    cases: Mapping[int, Cases]  # by fold
    epochs: int
    iterations: int
    validation_iterations: int
    settings: Mapping[str, Any]  # of the fine-tuning trainer, all of them
    classes: Mapping[str, str]  # the key of each class in nnU-Net's summary -> its name
    tolerance: float  # of the normalised surface Dice, in mm
    mirroring: bool  # whether predictions are averaged over mirrored images, as nnU-Net does
    data: Mapping[str, Any] = field(default_factory=dict)  # hashes of plans, cases and weights; what leaks were found

    def runs(self) -> list[Run]:
        """Return all trainings, seed by seed, so that all arms have as many whenever it is stopped."""
        names = [arm.name for arm in self.arms]
        return [
            Run(arm, labels, seed, fold, rate)
            for seed, fold, labels, rate, arm in product(self.seeds, self.cases, self.labels, self.rates, names)
        ]

    def arm(self, name: str) -> Arm:
        """Return an arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data that JSON keeps."""
        return {**asdict(self), "cases": {str(fold): asdict(cases) for fold, cases in self.cases.items()}}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Experiment:
        """Read what `to_mapping` returned, also by way of JSON."""
        cases = {int(f): Cases(**{name: tuple(c) for name, c in parts.items()}) for f, parts in values["cases"].items()}
        tuples = {name: tuple(values[name]) for name in ("labels", "seeds", "rates")}
        return cls(**{**values, **tuples, "cases": cases, "arms": tuple(Arm(**arm) for arm in values["arms"])})
