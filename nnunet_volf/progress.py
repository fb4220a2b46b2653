"""How a training gets on, in a line: how long it still takes, and whether the GPU waits for data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# Above this share of an epoch spent waiting for batches, more loader workers pay.
WAITING = 0.15
_RECENT = 5


def describe_progress(
    durations: Sequence[float], epochs_left: int, waited: float, could_reuse_crops: bool = False
) -> str:
    """Say how long the rest takes, from the last epochs' durations in seconds, and how much of the last was waiting."""
    left = readable_time(statistics.median(durations[-_RECENT:]) * epochs_left)
    share = waited / max(durations[-1], 1e-9)
    text = f"About {left} left." if epochs_left else "Last epoch."
    text += f" Waited for data during {share:.0%} of the epoch"
    if share > WAITING:
        reuse = " or reuse_crops=true" if could_reuse_crops else ""
        return f"{text}: more loader workers (nnUNet_n_proc_DA){reuse} would speed this up."
    return f"{text}."


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
