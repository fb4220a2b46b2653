"""The report on an import: one page that needs nothing else, and a table for the terminal.

Both hold neutral case names, numbers and file endings, and never a path: they may be shown to others.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.pages import write_page

from .report_data import AXES, ImportReport, Measures, measure, shown, sides
from .report_figures import histograms, profile, spans_scales
from .report_left_out import Group, common_endings, group_by_kind
from .report_outliers import Outlier, find_outliers
from .report_terminal import describe_import

__all__ = ["ImportReport", "cases_to_show", "describe_import", "write_report"]

# What keeps the page small and readable however large the archive is.
MOST_THUMBNAILS = 60
MOST_OUTLIERS = 4  # in each of spacing, size and intensity
MOST_CHANNELS = 8
MOST_BARS = 8
MOST_NOTES = 10


@dataclass(frozen=True)
class Card:
    """A figure with its title: either a drawing, or bars as (name, count, percent of the largest)."""

    title: str
    about: str
    drawing: str = ""
    bars: tuple[tuple[str, int, float], ...] = ()


@dataclass(frozen=True)
class Part:
    """One piece of the bar over all that was found."""

    name: str
    count: int
    style: str
    percent: float


@dataclass(frozen=True)
class Picture:
    """A case to be shown."""

    case: str
    data: str  # PNG, base64
    shape: str
    spacing: str


def write_report(path: Path, report: ImportReport) -> None:
    """Write the page, whole or not at all."""
    write_page(path, Path(__file__).with_name("report.html"), _context(report))


def cases_to_show(report: ImportReport) -> list[str]:
    """Return the cases that the page names as worth a look; a picture of each makes it a better page."""
    return [outlier.case for outlier in _named(find_outliers(report, measure(report)))]


def _context(report: ImportReport) -> dict[str, Any]:
    measures = measure(report)
    groups = group_by_kind(report.quarantined)
    outliers = find_outliers(report, measures)
    named = _named(outliers)
    pictures = _pictures(report)
    notes = Counter(note for case in report.cases for note in dict.fromkeys(case.get("notes", ())))
    return {
        "report": report,
        "parts": _parts(report, groups),
        "ignored": common_endings(report.ignored),
        "voxels": _large(float(measures.voxels.prod(axis=1).sum())),
        "median": _medians(measures) if report.cases else None,
        "cards": list(_cards(report, measures)) if report.cases else [],
        "intensities": list(_intensities(report, measures)) if report.cases else [],
        "more_channels": max(0, len(report.channel_names) - MOST_CHANNELS),
        "pictures": list(pictures.values())[:MOST_THUMBNAILS],
        "outliers": [(outlier, pictures.get(outlier.case)) for outlier in named],
        "more_outliers": len(outliers) - len(named),
        "aspects": _aspects(outliers),
        "faults": [group for group in groups if not group.expected],
        "expected": [group for group in groups if group.expected],
        "notes": sorted(notes.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_NOTES],
        "more_notes": max(0, len(notes) - MOST_NOTES),
    }


def _parts(report: ImportReport, groups: Sequence[Group]) -> list[Part]:
    by_kind = {group.kind: group.count for group in groups}
    counts = {
        ("cases taken", "taken"): len(report.cases),
        ("duplicates", "duplicates"): by_kind.pop("duplicate", 0),
        ("in a protected dataset", "known"): by_kind.pop("known", 0),
        ("other than volumes", "other"): sum(g.count for g in groups if g.expected and g.kind in by_kind),
        ("refused", "faults"): sum(group.count for group in groups if not group.expected),
    }
    total = max(1, sum(counts.values()))
    return [Part(name, count, style, 100 * count / total) for (name, style), count in counts.items() if count]


def _large(number: float) -> tuple[str, str]:
    """Return a large number as what is shown in large and in small print."""
    return (shown(number / 1e9), "billion") if number >= 1e9 else (shown(number / 1e6), "million")


def _medians(measures: Measures) -> dict[str, str]:
    medians = {"spacing": measures.spacing, "voxels": measures.voxels, "extent": measures.extent}
    return {name: sides(np.median(values, axis=0)) for name, values in medians.items()}


def _cards(report: ImportReport, measures: Measures) -> Iterator[Card]:
    yield Card("Spacing", "mm per voxel, along each stored axis", _by_axis(measures.spacing, "mm"))
    yield Card("Size in voxels", "along each stored axis", _by_axis(measures.voxels, "voxels"))
    yield Card("Size in mm", "what the scan covers", _by_axis(measures.extent, "mm"))
    facts = [channel for case in report.cases for channel in case["channels"]]
    yield Card("Orientation", "of the stored axes", bars=_bars(Counter(fact["orientation"] for fact in facts)))
    yield Card("Formats", "as the images were found", bars=_bars(Counter(case["format"] for case in report.cases)))
    yield Card("Voxel types", "as stored", bars=_bars(Counter(fact["dtype"] for fact in facts)))


def _intensities(report: ImportReport, measures: Measures) -> Iterator[Card]:
    """Yield three figures a channel: a row of the page."""
    for channel, name in enumerate(report.channel_names[:MOST_CHANNELS]):
        values = measures.intensities[:, channel]
        about = "median and 0.5th to 99.5th percentile within tissue; cases sorted by median"
        yield Card(f"{name}, case by case", about, profile(values))
        rows = [(percentile, values[:, n]) for n, percentile in enumerate(("0.5", "50", "99.5"))]
        about = "how the 0.5th, 50th and 99.5th percentile within tissue differ between cases"
        logarithmic = spans_scales(values)
        yield Card(f"{name}, by percentile", about, histograms(rows, "", logarithmic))
        about = "percent of the voxels that are not air; crops are taken there"
        yield Card(f"{name}, tissue", about, histograms([("", 100 * measures.tissue[:, channel])], "%"))


def _by_axis(values: NDArray[np.float64], unit: str) -> str:
    return histograms([(name, values[:, axis]) for axis, name in enumerate(AXES)], unit)


def _bars(counts: Counter[str]) -> tuple[tuple[str, int, float], ...]:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ordered[MOST_BARS:])
    shown_bars = ordered[:MOST_BARS] + ([(f"{len(ordered) - MOST_BARS:,} others", rest)] if rest else [])
    largest = max(count for _, count in shown_bars)
    return tuple((name, count, 100 * count / largest) for name, count in shown_bars)


def _pictures(report: ImportReport) -> dict[str, Picture]:
    return {
        case["case"]: Picture(
            case["case"],
            base64.b64encode(report.thumbnails[case["case"]]).decode("ascii"),
            sides(case["shape"][::-1]),
            sides(case["spacing"][::-1]),
        )
        for case in report.cases
        if case["case"] in report.thumbnails
    }


def _named(outliers: Sequence[Outlier]) -> list[Outlier]:
    """Return those furthest from the others in each aspect, so that none crowds out the others."""
    aspects = dict.fromkeys(outlier.aspect for outlier in outliers)
    return [o for aspect in aspects for o in [o for o in outliers if o.aspect == aspect][:MOST_OUTLIERS]]


def _aspects(outliers: Sequence[Outlier]) -> list[tuple[str, int]]:
    return sorted(Counter(outlier.aspect for outlier in outliers).items())
