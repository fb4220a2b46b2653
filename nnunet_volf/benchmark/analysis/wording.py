"""Numbers as the sentences and tables of a benchmark write them."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_volf.benchmark.analysis.statistics import Interval

DIGITS = {"dice": 3, "nsd": 3, "hd95": 2, "assd": 2}


def dice(value: float) -> str:
    """Write a Dice."""
    return f"{value:.3f}"


def change(value: float, metric: str = "dice") -> str:
    """Write a difference with its sign, and with one digit more where it would read as 0."""
    digits = DIGITS[metric]
    if round(value, digits) == 0 != round(value, digits + 1):
        digits += 1
    return f"{value:+.{digits}f}"


def interval(of: Interval, metric: str = "dice") -> str:
    """Write the ends of the interval of a difference."""
    return f"{change(of.low, metric)} to {change(of.high, metric)}"


def p_value(p: float | None) -> str:
    """Write a probability."""
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: int, noun: str) -> str:
    """Write how many of something, such as ``1 seed`` or ``3 seeds``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(items: Sequence[object]) -> str:
    """Write a list with its last item after ``and``."""
    *most, last = [str(item) for item in items]
    return f"{', '.join(most)} and {last}" if most else last
