"""The report on a benchmark: one page that needs nothing else, also while trainings are still missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.benchmark.analysis.comparisons import Comparison
from nnunet_volf.benchmark.analysis.convergence import Convergence
from nnunet_volf.benchmark.analysis.findings import MEAN, Findings
from nnunet_volf.benchmark.analysis.label_efficiency import Worth
from nnunet_volf.benchmark.analysis.verdict import most_important
from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.report.charts import (
    MOST_POINTS,
    NARROW,
    case_axis,
    case_chart,
    convergence_axis,
    convergence_chart,
    dice_chart,
)
from nnunet_volf.benchmark.report.conditions import (
    case_lists,
    described,
    facts,
    schedule,
    shared_conditions,
    total_time,
)
from nnunet_volf.benchmark.report.drawing import legend_marker, styles_of
from nnunet_volf.benchmark.report.overlays import COLOURS
from nnunet_volf.benchmark.report.pictures import gallery
from nnunet_volf.benchmark.report.table import DICE, against_scratch, number, table
from nnunet_volf.benchmark.report.without_folders import remover
from nnunet_volf.benchmark.results import Failure, Outcome
from nnunet_volf.pages import write_page
from nnunet_volf.progress import readable_time

MOST_CLASSES = 40  # with a table, or a colour in the legend, each
MOST_TRAINING_CASES = 12  # named for each training


@dataclass(frozen=True)
class Chart:
    """A drawing with its title, what it says in words, and lines below it."""

    title: str
    about: str
    drawing: str
    lines: tuple[tuple[str, str], ...] = ()  # arm and text


def write_report(
    folder: Path,
    experiment: Experiment,
    outcomes: Sequence[Outcome],
    failures: Sequence[Failure],
    findings: Findings,
    command: str,
    images: Path | None,
    truths: Path,
) -> Path:
    """Write report.html into the folder of a benchmark, and return its path.

    Args:
        folder: of the benchmark.
        experiment: the question.
        outcomes: the trainings that are done.
        failures: those that failed.
        findings: what they say.
        command: that was given; the only text that is shown with its folders.
        images: nnU-Net's imagesTr, if it is there.
        truths: the labels of the test cases, a file each.
    """
    weights = [arm.weights for arm in experiment.arms]
    clean = remover([folder.resolve(), folder, images, truths, *weights, Path.home(), Path.cwd()])
    content = _content(experiment, outcomes, failures, findings, clean)
    compared = _headline(findings)
    shown = (
        gallery(folder, experiment, outcomes, compared[-1], findings.chosen_rates, images, truths, clean)
        if compared
        else None
    )
    page = folder / "report.html"
    write_page(page, Path(__file__).with_name("page.html"), {**content, "command": command, "gallery": shown})
    return page


def _content(
    experiment: Experiment,
    outcomes: Sequence[Outcome],
    failures: Sequence[Failure],
    findings: Findings,
    clean: Callable[[Any], str],
) -> dict[str, Any]:
    names = [arm.name for arm in experiment.arms]
    classes = list(experiment.classes.values())
    levels = [level for level in findings.levels if (level.metric, level.label) == (DICE, MEAN)]
    headline = _headline(findings)
    tests = [len(cases.test) for cases in experiment.cases.values()]
    return {
        "experiment": experiment,
        "verdict": clean(findings.verdict.sentence).partition("; ")[::2],
        "details": [clean(text) for text in findings.verdict.details],
        "headline": headline,
        "tone": _tone(headline),
        "missing": [clean(text) for text in findings.missing],
        "total": len(experiment.runs()),
        "done": len(outcomes),
        "tests": sum(tests),
        "time": total_time(outcomes),
        "keys": {name: legend_marker(style) for name, style in styles_of(names).items()},
        "names": names,
        "table": table(experiment, findings, MEAN),
        "by_class": [table(experiment, findings, name) for name in classes[:MOST_CLASSES]] if len(classes) > 1 else [],
        "more_classes": max(0, len(classes) - MOST_CLASSES),
        "wide": dice_chart(levels, names) if levels else "",
        "narrow": dice_chart(levels, names, NARROW) if levels else "",
        "worth": _worth(experiment, findings),
        "convergence": _convergence(experiment, findings),
        "case_charts": _case_charts(experiment, findings),
        "swatches": list(zip(classes[:MOST_CLASSES], COLOURS * (1 + MOST_CLASSES // len(COLOURS)), strict=False)),
        "number": number,
        "arms": [(arm.name, clean(described(arm))) for arm in experiment.arms],
        "schedule": schedule(experiment),
        "rates": findings.chosen_rates if len(experiment.rates) > 1 else {},
        "settings": facts(experiment.settings, clean),
        "versions": shared_conditions(outcomes, clean),
        "data": facts(experiment.data, clean),
        "case_lists": case_lists(experiment, clean),
        "trainings": [
            (o.run, readable_time(o.seconds), [clean(case) for case in o.training_cases[:MOST_TRAINING_CASES]],
             max(0, len(o.training_cases) - MOST_TRAINING_CASES))
            for o in outcomes
        ],
        "failures": [(f.run, clean(f.reason), f"runs/{f.run.name}/log.txt") for f in failures],
    }  # fmt: skip


def _headline(findings: Findings) -> list[Comparison]:
    """Return the comparisons that the verdict is about, by the number of labels."""
    compared = against_scratch(findings, MEAN, DICE)
    arm = most_important(sorted({c.arm for c in compared}))
    return sorted((c for c in compared if c.arm == arm), key=lambda c: c.labels)


def _tone(compared: Sequence[Comparison]) -> str:
    """Return better or worse where that was shown and nowhere the opposite, else unclear."""
    shown = {c.verdict for c in compared} - {"unclear"}
    return shown.pop() if len(shown) == 1 else "unclear"


def _worth(experiment: Experiment, findings: Findings) -> list[tuple[str, list[str]]]:
    """Return for each arm how many labels scratch needs, by the number of labels."""
    found = {(worth.arm, worth.labels): worth for worth in findings.worth if worth.scratch_labels is not None}
    arms = [arm.name for arm in experiment.arms if arm.name != SCRATCH]
    rows = [(arm, [_needed(found.get((arm, labels))) for labels in experiment.labels]) for arm in arms]
    return [(arm, needed) for arm, needed in rows if any(needed)]


def _needed(worth: Worth | None) -> str:
    if worth is None or worth.scratch_labels is None:
        return ""
    number = f"{worth.scratch_labels:.0f}" if worth.scratch_labels >= 10 else f"{worth.scratch_labels:.2g}"
    return f"{worth.bound} {number}".strip()


def _convergence(experiment: Experiment, findings: Findings) -> list[Chart]:
    if not findings.convergence:
        return []
    ends = convergence_axis(findings.convergence)
    names = [arm.name for arm in experiment.arms]
    charts = []
    for labels in experiment.labels:
        rows = [row for row in findings.convergence if row.labels == labels]
        if rows:
            target = next((row.target for row in rows if row.arm == SCRATCH), rows[0].target)
            about = f"dashed: scratch's final Dice, {number(target)}"
            drawing = convergence_chart(rows, names, experiment.iterations, ends)
            charts.append(Chart(_labelled(labels), about, drawing, tuple((row.arm, _reached(row)) for row in rows)))
    return charts


def _reached(row: Convergence) -> str:
    if row.reached is None:
        return "never reaches it"
    ratio = row.scratch_reached / row.reached
    if row.arm == SCRATCH or ratio == 1:
        return f"{row.reached:,} iterations"
    compared = f"{ratio:.1f} times as fast" if ratio > 1 else f"takes {1 / ratio:.1f} times as long"
    return f"{row.reached:,} iterations, {compared}"


def _case_charts(experiment: Experiment, findings: Findings) -> list[tuple[str, list[Chart]]]:
    compared = against_scratch(findings, MEAN, DICE)
    names = [arm.name for arm in experiment.arms]
    # An axis for each arm: one that fails altogether would flatten the charts of all others.
    ends = {arm: case_axis([c for c in compared if c.arm == arm]) for arm in {c.arm for c in compared}}
    rows = []
    for labels in experiment.labels:
        mine = sorted((c for c in compared if c.labels == labels), key=lambda c: names.index(c.arm))
        if mine:
            rows.append((_labelled(labels), [_case_chart(c, names, ends[c.arm]) for c in mine]))
    return rows


def _case_chart(comparison: Comparison, names: Sequence[str], ends: tuple[float, float]) -> Chart:
    ordered = sorted(comparison.per_case.items(), key=lambda pair: (pair[1], pair[0]))
    equal = f", {comparison.equal:,} equal" if comparison.equal else ""
    about = f"{comparison.better:,} better, {comparison.worse:,} worse{equal}"
    if len(ordered) > MOST_POINTS:
        about += f"; each bar stands for about {len(ordered) / MOST_POINTS:.0f} cases"
    (worst, low), (best, high) = ordered[0], ordered[-1]
    lines = (("worst", f"{worst}: {number(low, signed=True)}"), ("best", f"{best}: {number(high, signed=True)}"))
    return Chart(comparison.arm, about, case_chart(comparison, names, ends), lines)


def _labelled(count: int) -> str:
    return f"{count:,} labelled case{'' if count == 1 else 's'}"
