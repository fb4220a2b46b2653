"""How a training gets on, in a line: how long it still takes, and whether its steps wait for data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# Above this share of an epoch spent waiting for batches, whatever makes them faster pays.
WAITING = 0.15
_RECENT = 5


def describe_progress(
    durations: Sequence[float],
    epochs_left: int,
    waited: float,
    step: float | None = None,
    gpu: float | None = None,
    faster: Sequence[str] = (),
) -> str:
    """Say how long the rest takes, and what the last epoch's time went to.

    Args:
        durations: seconds of the epochs so far.
        epochs_left: how many are to come.
        waited: seconds for which steps of the last epoch waited for batches.
        step: seconds of a typical step in it.
        gpu: share of time in which the GPU worked.
        faster: what would make batches come faster and is not in use.
    """
    left = readable_time(statistics.median(durations[-_RECENT:]) * epochs_left)
    share = waited / max(durations[-1], 1e-9)
    text = f"About {left} left." if epochs_left else "Last epoch."
    text += f" Waited for data during {share:.0%} of the epoch"
    text += f"; a step took {step:.3g} s" if step is not None else ""
    text += f"; the GPU worked {gpu:.0%} of the time" if gpu is not None else ""
    if share <= WAITING:
        return f"{text}."
    if not faster:
        return f"{text}. No setting would make batches come faster; more CPUs or a faster disk would."
    return f"{text}. Batches would come faster with {' or '.join(faster)}."


def readable_time(seconds: float) -> str:
    """Return a duration as people say it: ``40 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"
