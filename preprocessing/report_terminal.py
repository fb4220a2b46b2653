"""What an import found, took and left out, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .report_data import AXES, ImportReport, Measures, measure, shown
from .report_left_out import Group, common_endings, group_by_kind
from .report_outliers import find_outliers

_LINE = 100
_MOST_KINDS = 6
_MOST_CHANNELS = 4
_MOST_OUTLIERS = 3


def describe_import(report: ImportReport) -> str:
    """Return at most 40 lines, whatever the archive holds."""
    measures = measure(report)
    groups = group_by_kind(report.quarantined)
    blocks = [list(_headline(report, groups))]
    if report.cases:
        blocks.append(list(_ranges(report, measures)))
        blocks.append(list(_outliers(report, measures)))
    blocks.append(list(_left_out(groups)))
    blocks.append([f"Next: {report.next_command}"] if report.next_command else [])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _headline(report: ImportReport, groups: Sequence[Group]) -> Iterator[str]:
    channels = ", ".join(report.channel_names[:_MOST_CHANNELS]) + (", …" if len(report.channel_names) > 4 else "")
    yield _cut(f"{report.dataset}: {_count(len(report.cases), 'case')} of {channels}, from {report.source}")
    found = _listed(sorted(report.found.items(), key=lambda pair: (-pair[1], pair[0])))
    yield _cut(f"  found     {_count(sum(report.found.values()), 'image')}{found}")
    yield f"  taken     {_count(len(report.cases), 'case')} ({report.added:,} new, {report.kept:,} from before)"
    faults = sum(group.count for group in groups if not group.expected)
    if groups:
        expected = sum(group.count for group in groups if group.expected)
        yield f"  left out  {faults + expected:,} ({faults:,} refused, {expected:,} as expected)"
    if report.ignored:
        ignored = _listed(common_endings(report.ignored))
        yield _cut(f"  ignored   {_count(sum(report.ignored.values()), 'file')} of other kinds{ignored}")


def _ranges(report: ImportReport, measures: Measures) -> Iterator[str]:
    blocks = {"spacing (mm)": measures.spacing, "size (voxels)": measures.voxels, "size (mm)": measures.extent}
    yield f"{'':12}" + "".join(f"{name:^28}" for name in blocks)
    yield f"{'':12}" + f"{'min':>8}{'median':>9}{'max':>8}   " * 3
    for axis, name in enumerate(AXES):
        cells = ("".join(_cells(values[:, axis])) for values in blocks.values())
        yield f"  {name:10}" + "   ".join(cells)
    yield ""
    yield f"{'in tissue':12}{'0.5 %':>8}{'median':>9}{'99.5 %':>8}{'share':>9}   (medians over the cases)"
    for channel, name in enumerate(report.channel_names[:_MOST_CHANNELS]):
        low, middle, high = (shown(value) for value in np.median(measures.intensities[:, channel], axis=0))
        share = 100 * float(np.median(measures.tissue[:, channel]))
        yield f"  {name[:9]:10}{low:>8}{middle:>9}{high:>8}{share:>7.0f} %"
    if len(report.channel_names) > _MOST_CHANNELS:
        yield f"  and {len(report.channel_names) - _MOST_CHANNELS} more channels"


def _cells(values: Iterable[float]) -> tuple[str, str, str]:
    array = np.asarray(values)
    return f"{shown(array.min()):>8}", f"{shown(np.median(array)):>9}", f"{shown(array.max()):>8}"


def _outliers(report: ImportReport, measures: Measures) -> Iterator[str]:
    outliers = find_outliers(report, measures)
    if outliers:
        yield f"Worth a look: {_count(len(outliers), 'case')} unlike the others"
        yield from (_cut(f"  {outlier.case}  {outlier.what}") for outlier in outliers[:_MOST_OUTLIERS])


def _left_out(groups: Sequence[Group]) -> Iterator[str]:
    if not groups:
        return
    yield "Left out"
    for group in groups[:_MOST_KINDS]:
        yield _cut(f"{group.count:8,}  {group.kind:17} {group.reasons[0]}")
        yield _cut(f"{'':28}-> {group.advice[0]}")
    rest = groups[_MOST_KINDS:]
    if rest:
        yield _cut(f"{sum(group.count for group in rest):8,}  {', '.join(group.kind for group in rest)}")


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return f": {', '.join(f'{count:,} {name}' for name, count in counts)}" if counts else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cut(line: str) -> str:
    """Keep to one line, so that the table stays a table."""
    return line if len(line) <= _LINE else f"{line[: _LINE - 2].rstrip()} …"
