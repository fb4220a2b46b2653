"""The results of a benchmark for other programs, and as a table for the terminal."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import stdev
from typing import Any

from nnunet_volf.benchmark.analysis.comparisons import Comparison, Level
from nnunet_volf.benchmark.analysis.findings import Findings
from nnunet_volf.benchmark.analysis.score_grid import MEAN
from nnunet_volf.benchmark.analysis.wording import change, dice, interval, p_value
from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import METRICS, Outcome
from nnunet_volf.files import replacing

FORMAT = 1  # of report.json; raised when what is in it changes its meaning
COLUMNS = ("arm", "labels", "seed", "fold", "rate", "case", "class", *METRICS)
HEADER = ("labels", "arm", "Dice", "SD of seeds", "to scratch", "95 % interval", "cases +/-/=", "p (Holm)")
LONGEST_NAME = 16  # of an arm; keeps the table within 100 columns


def write_results_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a line for each training, test case and class, in an order that does not depend on the outcomes' own."""
    lines: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        run = outcome.run
        for score in outcome.scores:
            values = [getattr(score, metric) for metric in METRICS]
            lines.append((run.arm, run.labels, run.seed, run.fold, run.rate, score.case, score.label, *values))
    lines.sort(key=lambda line: line[: -len(METRICS)])
    with replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(lines)


def report_json(experiment: Experiment, outcomes: Sequence[Outcome], findings: Findings) -> dict[str, Any]:
    """Return all of a benchmark but the scores of each training, which results.csv holds, as plain data for JSON."""
    runs = [
        {
            "run": outcome.run,
            "training_cases": outcome.training_cases,
            "curve": outcome.curve,
            "seconds": outcome.seconds,
            "conditions": outcome.conditions,
        }
        for outcome in sorted(outcomes, key=lambda outcome: outcome.run.name)
    ]
    content = {"format": FORMAT, "experiment": experiment.to_mapping(), "findings": asdict(findings), "runs": runs}
    plain: dict[str, Any] = _plain(content)
    return plain


def _plain(value: Any) -> Any:
    """Return lists, dicts with text as keys, and no number that JSON does not know."""
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def terminal_table(findings: Findings) -> str:
    """Return the mean Dice of each number of labels and arm, and how it differs from scratch."""
    levels = [level for level in findings.levels if (level.metric, level.label) == ("dice", MEAN)]
    against_scratch = {
        (c.arm, c.labels): c
        for c in findings.comparisons
        if (c.metric, c.label, c.reference) == ("dice", MEAN, SCRATCH)
    }
    rows = [_row(level, against_scratch.get((level.arm, level.labels))) for level in levels]
    widths = [max(len(line[column]) for line in [HEADER, *rows]) for column in range(len(HEADER))]
    lines = [_line(HEADER, widths), "-" * (sum(widths) + 2 * (len(widths) - 1))]
    for _, group in groupby(rows, key=lambda row: row[0]):
        first, *others = group
        lines += [_line(first, widths), *(_line(("", *row[1:]), widths) for row in others)]
    return "\n".join(lines)


def _row(level: Level, comparison: Comparison | None) -> tuple[str, ...]:
    name = level.arm if len(level.arm) <= LONGEST_NAME else f"{level.arm[: LONGEST_NAME - 1]}…"
    spread = f"± {dice(stdev(level.per_seed))}" if len(level.per_seed) > 1 else "1 seed"
    own = (str(level.labels), name, dice(level.mean.value), spread)
    if comparison is None:
        return (*own, "", "", "", "")
    c = comparison
    p = "" if c.p_holm is None else p_value(c.p_holm)
    return (*own, change(c.difference.value), interval(c.difference), f"{c.better}/{c.worse}/{c.equal}", p)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    arm = HEADER.index("arm")
    padded = [
        cell.ljust(width) if place == arm else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
