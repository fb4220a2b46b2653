"""How a benchmark gets on, a line for each training that has ended."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from nnunet_volf.benchmark.folder import failure_of, outcome_of
from nnunet_volf.benchmark.results import Run
from nnunet_volf.progress import readable_time


@dataclass
class Outlook:
    """Counts what has ended, and tells from the pace so far when the rest will be."""

    folder: Path
    total: int
    ended: int = 0
    started: float = field(default_factory=perf_counter)

    def describe(self, run: Run) -> str:
        """Say how a training went and how long the others will still take."""
        self.ended += 1
        left = (perf_counter() - self.started) / self.ended * (self.total - self.ended)
        text = f"[{self.ended:{len(str(self.total))}}/{self.total}] {run.arm}, {run.labels} labels, seed {run.seed}"
        text += f", fold {run.fold}" + ("" if run.rate == 1 else f", rate x {run.rate:g}")
        outcome = outcome_of(self.folder, run)
        if outcome is not None:
            dice = [score.dice for score in outcome.scores if score.dice is not None]
            text += f": Dice {statistics.fmean(dice):.3f}, {readable_time(outcome.seconds)}"
        else:
            failure = failure_of(self.folder, run)
            text += f": failed, {failure.reason if failure else 'nothing is known of it'}"
        return text + (f"; about {readable_time(left)} left" if self.ended < self.total else "")
