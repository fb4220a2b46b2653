"""Timing side by side: the candidates take turns, so that a machine that slows down slows all of them down."""

from __future__ import annotations

import argparse
import math
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter

import torch


@dataclass(frozen=True)
class Timed:
    """Seconds of one call, and the ratio to the yardstick taken round by round; medians.

    The mean is for candidates whose calls differ by chance: it is what many calls take.
    """

    name: str
    seconds: float
    ratio: float
    mean: float = math.nan


def side_by_side(
    candidates: Mapping[str, Callable[[], object]],
    yardstick: str,
    rounds: int,
    clock: Callable[[], float] = perf_counter,
) -> list[Timed]:
    """Call every candidate once a round, after a round that does not count.

    What runs in one thread and waits for nothing is best measured with `time.process_time`, which other processes do
    not disturb.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, call in candidates.items():
            started = clock()
            call()
            if number:
                times[name].append(clock() - started)
    return [
        Timed(
            name,
            statistics.median(taken),
            statistics.median(t / y for t, y in zip(taken, times[yardstick], strict=True)),
            statistics.mean(taken),
        )
        for name, taken in times.items()
    ]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that the benchmarks share."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--patch", type=int, nargs=3, default=(128, 128, 128))
    options.add_argument("--channels", type=int, default=1)
    options.add_argument("--rounds", type=int, default=15)
    return options


def arguments(description: str | None) -> argparse.Namespace:
    """Read the options that the benchmarks share, and restrict torch to one thread."""
    torch.set_num_threads(1)
    return parser(description).parse_args()


def conditions() -> str:
    """Return one line on what the figures were taken with."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "nnunetv2", "nnunet-volf", "numpy"))
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s), {packages}"


def print_table(title: str, rows: list[Timed], yardstick: str, unit: str = "ms") -> None:
    """Print a markdown table."""
    print(f"\n{title}\n\n| | {unit} | x {yardstick} |\n|---|---|---|")
    for row in rows:
        print(f"| {row.name} | {1000 * row.seconds:.2f} | {row.ratio:.2f} |")
