"""A progress bar with the time that is left."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from time import monotonic
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def show(running: Iterable[T], total: int, what: str) -> Generator[T, None, None]:
    """Pass results on and show how many of them there are; nothing is shown where nothing is to do."""
    bar = tqdm(running, total=total, desc=what, disable=total == 0, unit="", dynamic_ncols=True)
    if not bar.disable:  # tqdm asks a clock that may be set meanwhile: the bar would stand still, or the time run back
        bar._time = monotonic
        bar.start_t = bar.last_print_t = monotonic()
    yield from bar
