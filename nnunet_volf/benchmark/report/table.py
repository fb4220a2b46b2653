"""The table of a benchmark's report: a row for each arm and number of labels, with numbers as they are read."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_volf.benchmark.analysis.comparisons import Comparison, Level
from nnunet_volf.benchmark.analysis.findings import Findings
from nnunet_volf.benchmark.analysis.statistics import Interval
from nnunet_volf.benchmark.analysis.wording import DIGITS, change, p_value
from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import METRICS

DICE = "dice"
_MINUS, _TO = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """A number, its interval, and whether it is better or worse than scratch."""

    value: str
    interval: str = ""
    sign: str = ""


@dataclass(frozen=True)
class Row:
    """An arm with a number of labels; without a mean Dice none of its trainings is done."""

    arm: str
    dice: Cell | None
    difference: Cell | None = None
    p: str = ""
    cases: tuple[str, ...] = ()  # how many are better, worse, equal
    others: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of all numbers of labels, for one class or the mean of the classes."""

    label: str
    parts: tuple[tuple[int, tuple[Row, ...]], ...]
    left_out: int  # pairs of a case and a class without a value, at most in a row


def table(experiment: Experiment, findings: Findings, label: str) -> Table:
    """Return the table of a class, or of the mean of the classes."""
    levels = {(d.arm, d.labels, d.metric): d for d in findings.levels if d.label == label}
    compared = against_scratch(findings, label)
    comparisons = {(c.arm, c.labels, c.metric): c for c in compared}
    parts = tuple(
        (labels, tuple(_row(arm.name, labels, levels, comparisons) for arm in experiment.arms))
        for labels in experiment.labels
    )
    return Table(label, parts, max((level.left_out for level in levels.values()), default=0))


def against_scratch(findings: Findings, label: str, metric: str | None = None) -> list[Comparison]:
    """Return the comparisons with scratch, in one metric or all."""
    return [
        c for c in findings.comparisons if c.reference == SCRATCH and c.label == label and metric in (None, c.metric)
    ]


def number(value: float, metric: str = DICE, signed: bool = False) -> str:
    """Return a value, or with its sign a difference, with the digits that all of the report gives the metric."""
    return (change(value, metric) if signed else f"{value:.{DIGITS[metric]}f}").replace("-", _MINUS)


def _row(
    arm: str,
    labels: int,
    levels: dict[tuple[str, int, str], Level],
    comparisons: dict[tuple[str, int, str], Comparison],
) -> Row:
    level, compared = levels.get((arm, labels, DICE)), comparisons.get((arm, labels, DICE))
    if level is None:
        return Row(arm, None)
    others = []
    for metric in METRICS:
        if metric == DICE:
            continue
        other, sign = levels.get((arm, labels, metric)), comparisons.get((arm, labels, metric))
        others.append(_cell(other.mean, metric, sign.verdict if sign else "") if other else Cell("-"))
    dice = _cell(level.mean, DICE)
    if compared is None:
        return Row(arm, dice, others=tuple(others))
    return Row(
        arm,
        dice,
        _cell(compared.difference, DICE, compared.verdict, signed=True),
        p_value(compared.p_holm),
        _counted(compared),
        tuple(others),
    )


def _cell(interval: Interval, metric: str, sign: str = "", signed: bool = False) -> Cell:
    value, low, high = (number(v, metric, signed) for v in (interval.value, interval.low, interval.high))
    return Cell(value, f"{low} to {high}" if signed else f"{low}{_TO}{high}", sign)


def _counted(comparison: Comparison) -> tuple[str, ...]:
    counts = {"better": comparison.better, "worse": comparison.worse, "equal": comparison.equal}
    return tuple(f"{count:,} {name}" for name, count in counts.items() if count or name != "equal")
