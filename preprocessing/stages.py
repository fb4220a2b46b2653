"""Where the time of preprocessing a case goes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

READ = "read"
NORMALISE = "crop and normalise"
RESAMPLE = "resample"
WHOLE = "the plan's own preprocessor"  # which does the three above in one
TISSUE = "find tissue"
COMPRESS = "compress and write"
VERIFY = "read back"
STAGES = (READ, NORMALISE, RESAMPLE, WHOLE, TISSUE, COMPRESS, VERIFY)


class Stopwatch:
    """Seconds spent in each stage of one case."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def during(self, stage: str) -> Generator[None, None, None]:
        """Add the time that passes inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


def shares(cases: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the share of each stage in the time of all cases, in the order in which they are passed through."""
    total = dict.fromkeys(STAGES, 0.0)
    for seconds in cases:
        for stage, taken in seconds.items():
            total[stage] += taken
    whole = sum(total.values())
    return {stage: taken / whole for stage, taken in total.items() if taken}
