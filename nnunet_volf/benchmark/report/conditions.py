"""The conditions of a benchmark as they are read: facts with names, and those that all trainings share only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_volf.benchmark.arms import Arm
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.report.without_folders import file_name
from nnunet_volf.benchmark.results import Outcome
from nnunet_volf.progress import readable_time

_MOST_VALUES = 4  # of one condition, before only their number is told
MOST_NAMES = 300


@dataclass(frozen=True)
class Fact:
    """A name with a value, or with facts of its own."""

    name: str
    value: str
    parts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Names:
    """Names of cases: how many, and those that are shown."""

    title: str
    count: int
    shown: tuple[str, ...]

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.count - len(self.shown)


def facts(values: Mapping[str, Any], clean: Callable[[Any], str]) -> tuple[Fact, ...]:
    """Return whatever a mapping holds as facts; `clean` makes a text fit to be shown."""
    return tuple(_fact(clean(_readable(name)), value, clean) for name, value in values.items())


def shared_conditions(outcomes: Sequence[Outcome], clean: Callable[[Any], str]) -> tuple[Fact, ...]:
    """Return the conditions of all trainings; where they differ, each value with how many trainings had it."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for name, value in _flat(outcome.conditions):
            found.setdefault(name, Counter())[clean(_text(value))] += 1
    return tuple(Fact(clean(name), _counted(values, len(outcomes))) for name, values in found.items())


def schedule(experiment: Experiment) -> tuple[Fact, ...]:
    """Return how long each training takes and how it is tested."""
    rates = ", ".join(f"{rate:g}" for rate in experiment.rates)
    return (
        Fact("schedule", f"{experiment.epochs:,} epochs of {experiment.iterations:,} iterations"),
        Fact("validation", f"{experiment.validation_iterations:,} batches after each epoch"),
        Fact("seeds", ", ".join(map(str, experiment.seeds))),
        Fact("learning rate", f"each arm's own, times {rates}" if experiment.rates != (1.0,) else "each arm's own"),
        Fact("surface Dice (NSD)", f"tolerance {experiment.tolerance:g} mm"),
        Fact("prediction", f"{'averaged over' if experiment.mirroring else 'without'} mirrored images"),
    )


def case_lists(experiment: Experiment, clean: Callable[[Any], str]) -> tuple[Names, ...]:
    """Return the cases of each fold: tested, watched, and those that labels are drawn from."""
    lists = []
    for fold, cases in experiment.cases.items():
        for title, names in (
            ("test: scored here, never trained on", cases.test),
            ("validation: watched during training", cases.validation),
            ("pool: training cases are drawn from it", cases.pool),
        ):
            shown = tuple(clean(name) for name in names[:MOST_NAMES])
            lists.append(Names(f"Fold {fold}, {title}", len(names), shown))
    return tuple(lists)


def described(arm: Arm) -> str:
    """Return what tells an arm from the others, with its weights by their name."""
    return str(arm) if arm.weights is None else str(arm).replace(arm.weights, file_name(arm.weights))


def total_time(outcomes: Sequence[Outcome]) -> str:
    """Return how long all trainings took together."""
    return readable_time(sum(outcome.seconds for outcome in outcomes))


def _fact(name: str, value: Any, clean: Callable[[Any], str]) -> Fact:
    if isinstance(value, Mapping) and value:
        return Fact(name, f"{len(value):,}", facts(value, clean))
    if isinstance(value, (list, tuple)) and any(isinstance(part, (Mapping, list, tuple)) for part in value):
        parts = tuple(_fact(str(n), part, clean) for n, part in enumerate(value, start=1))
        return Fact(name, f"{len(value):,}", parts)
    return Fact(name, clean(_text(value)))


def _text(value: Any) -> str:
    if value is None or value in ([], (), {}, ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        more = f" and {len(value) - MOST_NAMES:,} more" if len(value) > MOST_NAMES else ""
        texts = [str(part) for part in value[:MOST_NAMES]]
        return (" " if all(text.endswith(".") for text in texts) else ", ").join(texts) + more
    return f"{value:g}" if isinstance(value, float) else str(value)


def _readable(name: str) -> str:
    return str(name).replace("_", " ")


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        pairs += _flat(value, f"{before}{_readable(name)} ") if inner else [(before + _readable(name), value)]
    return pairs


def _counted(values: Counter[str], trainings: int) -> str:
    if len(values) == 1 and values.total() == trainings:
        return next(iter(values))
    if len(values) > _MOST_VALUES:
        return f"{len(values):,} values, see result.json of each training"
    ordered = sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))
    return "; ".join(f"{value} (in {count:,} of {trainings:,} trainings)" for value, count in ordered)
