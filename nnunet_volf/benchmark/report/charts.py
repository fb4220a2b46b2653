"""The charts of a benchmark's report as small inline SVG, whose colours the page sets for light, dark and print."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

from nnunet_volf.benchmark.analysis.comparisons import Comparison, Level
from nnunet_volf.benchmark.analysis.convergence import Convergence
from nnunet_volf.benchmark.analysis.wording import listed
from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.benchmark.report.drawing import (
    Axis,
    apart,
    axis_over,
    band,
    group,
    marker,
    picture,
    polyline,
    segment,
    styles_of,
    words,
)

WIDE, NARROW = 720, 340  # widths, so that letters have their size on a desktop and on a telephone
MOST_POINTS = 100  # of a curve, and bars of a chart of cases: more cannot be told apart in a narrow chart
_LETTER = 6.8  # the width of one, at most, on average
_LONGEST_NAME = 16
_TOP = 12.0


def dice_chart(levels: Sequence[Level], arms: Sequence[str], width: int = WIDE) -> str:
    """Draw the Dice against the number of labels: a marker and interval an arm, and a dot for each seed.

    Args:
        levels: of one metric and label.
        arms: all names, in order.
        width: of the drawing.
    """
    height, left, bottom = (400.0, 46.0, 352.0) if width == WIDE else (310.0, 38.0, 266.0)
    names = [arm for arm in arms if any(level.arm == arm for level in levels)]
    # A narrow chart needs its width for the curves; the page's legend tells the arms apart.
    right = width - 22 - _LETTER * max(len(_short(name)) for name in names) if width == WIDE else width - 6.0
    counts = sorted({level.labels for level in levels})
    inside = 10 + 6.0 * len(names)
    x_axis = Axis(counts[0], counts[-1], left + inside, right - inside, logarithmic=True)
    y_axis = axis_over([v for d in levels for v in (d.mean.low, d.mean.high, *d.per_seed)], bottom, _TOP)
    shift = _shifts(names, [x_axis.at(count) for count in counts])
    parts = _levels_grid(y_axis, left, right) + _count_ticks(counts, x_axis, bottom)
    parts.append(words("tick", (left + right) / 2, bottom + 34, "labelled cases in training (logarithmic)"))
    ends = []
    for arm in names:
        mine = sorted((level for level in levels if level.arm == arm), key=lambda level: level.labels)
        style = styles_of(arms)[arm]
        points = [(x_axis.at(d.labels) + shift[arm], y_axis.at(d.mean.value)) for d in mine]
        parts.append(polyline(f"line arm{style}", points))
        parts += [_level(level, x, y_axis, style) for level, (x, _) in zip(mine, points, strict=True)]
        ends.append(points[-1][1])
    if width == WIDE:
        for arm, end, place in zip(names, ends, apart(ends, 15, _TOP, bottom - 4), strict=True):
            parts.append(segment("leader", right - 4, end, right + 4, place))
            parts.append(words(f"name arm{styles_of(arms)[arm]}", right + 8, place + 4, _short(arm)))
    told = f"Dice of {', '.join(names)} with {listed(counts)} labelled cases"
    return picture(width, height, told, parts)


def convergence_axis(rows: Sequence[Convergence]) -> tuple[float, float]:
    """Return the ends of an axis that leaves out the steep first tenth of the epochs, where all arms climb alike."""
    late = [value for row in rows for value in (*row.curve[len(row.curve) // 10 :], row.target)]
    low, high = min(late), max([*late, *(top for row in rows for _, top in row.spread)])
    room = 0.04 * (high - low) or 0.05
    return low - room, high + room


def convergence_chart(
    rows: Sequence[Convergence], arms: Sequence[str], iterations: int, ends: tuple[float, float]
) -> str:
    """Draw the validation Dice during training for one number of labels: mean and seeds, and when scratch is reached.

    Args:
        rows: one an arm.
        arms: all names, in order.
        iterations: of an epoch.
        ends: of the Dice axis, shared by the charts that are looked at together.
    """
    height, left, right, bottom = 236.0, 38.0, NARROW - 10.0, 194.0
    longest = max(len(row.curve) for row in rows) * iterations
    x_axis, y_axis = Axis(0, longest, left, right), Axis(*ends, bottom, _TOP)
    parts = _levels_grid(y_axis, left, right)
    for tick in x_axis.ticks(4):
        parts.append(segment("base", x_axis.at(tick), bottom, x_axis.at(tick), bottom + 4))
        parts.append(words("tick", x_axis.at(tick), bottom + 16, f"{tick:,.0f}"))
    parts.append(words("tick", (left + right) / 2, bottom + 34, "iterations"))
    target = y_axis.at(next((row.target for row in rows if row.arm == SCRATCH), rows[0].target))
    parts.append(segment("target", left, target, right, target))
    for row in rows:
        style = styles_of(arms)[row.arm]
        columns = [c for c in _columns(row, iterations) if c[1] >= y_axis.low]
        upper = [(x_axis.at(x), y_axis.at(high)) for x, _, _, high in columns]
        lower = [(x_axis.at(x), y_axis.at(low)) for x, _, low, _ in columns]
        line = [(x_axis.at(x), y_axis.at(mean)) for x, mean, _, _ in columns]
        if columns:
            parts.append(group(row.arm, [band(f"band arm{style}", upper, lower), polyline(f"line arm{style}", line)]))
    for row in rows:
        if row.reached is not None:
            said = f"{row.arm} reaches {row.target:.3f} after {row.reached:,} iterations"
            x, y = x_axis.at(row.reached), y_axis.at(row.target)
            drop = segment(f"drop arm{styles_of(arms)[row.arm]}", x, y, x, bottom)
            parts.append(group(said, [drop, marker(x, y, styles_of(arms)[row.arm])]))
    told = f"Validation Dice during training with {rows[0].labels} labelled cases: {', '.join(r.arm for r in rows)}"
    return picture(NARROW, height, told, parts)


def case_axis(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Return the ends of an axis that holds zero, all cases and all intervals."""
    ends = [end for c in comparisons for end in (c.difference.low, c.difference.high)]
    values = [0.0, *ends, *(value for c in comparisons for value in c.per_case.values())]
    return (min(values), max(values)) if min(values) < max(values) else (-0.01, 0.01)


def case_chart(comparison: Comparison, arms: Sequence[str], ends: tuple[float, float]) -> str:
    """Draw the difference of every case to scratch, from worst to best, and their mean with its interval beside them.

    Args:
        comparison: of an arm with scratch.
        arms: all names, in order.
        ends: of the axis, shared by the charts that are looked at together.
    """
    height, left, right, bottom = 176.0, 44.0, NARROW - 30.0, 164.0
    y_axis = Axis(*ends, bottom, _TOP)
    parts = _levels_grid(y_axis, left, NARROW - 4, signed=True)
    columns = _sorted_columns(comparison)
    step = (right - left) / len(columns)
    bar = min(step * 0.78, 16.0)
    zero = y_axis.at(0)
    for n, (value, said) in enumerate(columns):
        direction = "up" if value > 0 else "down" if value < 0 else "flat"
        y, x = y_axis.at(value), left + step * (n + 0.5) - bar / 2
        # A case without any difference is still a case: it is seen as a flat bar.
        tall = max(abs(y - zero), 1.2)
        top = zero - tall if value > 0 else zero if value < 0 else zero - tall / 2
        shape = f'<rect class="case {direction}" x="{x:.1f}" y="{top:.1f}" width="{bar:.1f}" height="{tall:.1f}"/>'
        parts.append(group(said, [shape]))
    parts.append(segment("zero", left, zero, NARROW - 4, zero))
    mean, x = comparison.difference, NARROW - 16.0
    whisker = segment(f"whisker arm{styles_of(arms)[comparison.arm]}", x, y_axis.at(mean.low), x, y_axis.at(mean.high))
    dot = marker(x, y_axis.at(mean.value), styles_of(arms)[comparison.arm], 4)
    parts.append(group(f"mean {mean.value:+.3f}, {mean.low:+.3f} to {mean.high:+.3f}", [whisker, dot]))
    told = (
        f"Differences of {comparison.arm} to scratch with {comparison.labels} labelled cases: "
        f"{comparison.better} cases better, {comparison.worse} worse, {comparison.equal} equal"
    )
    return picture(NARROW, height, told, parts)


def _level(level: Level, x: float, y_axis: Axis, style: int) -> str:
    mean = level.mean
    said = f"{level.arm}, {level.labels} labels: {mean.value:.3f}, {mean.low:.3f} to {mean.high:.3f}"
    low, high = y_axis.at(mean.low), y_axis.at(mean.high)
    parts = [segment(f"whisker arm{style}", x, low, x, high)]
    parts += [segment(f"whisker arm{style}", x - 3, end, x + 3, end) for end in (low, high)]
    if len(level.per_seed) > 1:
        parts += [
            f'<circle class="seed arm{style}" cx="{x - 5:.1f}" cy="{y_axis.at(s):.1f}" r="2"/>' for s in level.per_seed
        ]
    return group(said, [*parts, marker(x, y_axis.at(mean.value), style)])


def _levels_grid(axis: Axis, left: float, right: float, signed: bool = False) -> list[str]:
    parts = []
    ticks = axis.ticks()
    decimals = next(n for n in range(1, 12) if all(abs(tick - round(tick, n)) < 1e-3 * 10.0**-n for tick in ticks))
    for tick in ticks:
        y = axis.at(tick)
        text = f"{tick:+.{decimals}f}" if signed and round(tick, 9) else f"{tick:.{decimals}f}"
        parts.append(segment("grid", left, y, right, y))
        parts.append(words("level", left - 6, y + 3.8, text.replace("-", "\N{MINUS SIGN}")))
    return parts


def _count_ticks(counts: Sequence[int], axis: Axis, bottom: float) -> list[str]:
    parts, last = [], -1e9
    for count in counts:
        x, half = axis.at(count), _LETTER * len(f"{count:,}") / 2
        parts.append(segment("base", x, bottom, x, bottom + 4))
        if x - half > last + 4:
            parts.append(words("tick", x, bottom + 16, f"{count:,}"))
            last = x + half
    return parts


def _shifts(names: Sequence[str], places: Sequence[float]) -> dict[str, float]:
    """Return how far each arm is drawn beside its place, so that intervals stand side by side."""
    nearest = min((b - a for a, b in pairwise(places)), default=120.0)
    step = min(13.0, 0.8 * nearest / max(len(names), 1))
    return {name: step * (n - (len(names) - 1) / 2) for n, name in enumerate(names)}


def _columns(row: Convergence, iterations: int) -> list[tuple[float, float, float, float]]:
    """Return iterations, mean, lowest and highest seed of at most so many neighbouring groups of epochs."""
    size = -(-len(row.curve) // MOST_POINTS)
    groups = [range(first, min(first + size, len(row.curve))) for first in range(0, len(row.curve), size)]
    return [
        (
            statistics.fmean(epoch + 1 for epoch in epochs) * iterations,
            statistics.fmean(row.curve[epoch] for epoch in epochs),
            statistics.fmean(row.spread[epoch][0] for epoch in epochs),
            statistics.fmean(row.spread[epoch][1] for epoch in epochs),
        )
        for epochs in groups
    ]


def _sorted_columns(comparison: Comparison) -> list[tuple[float, str]]:
    """Return a value and what to say of it for every case from worst to best, or for groups of neighbours."""
    ordered = sorted(comparison.per_case.items(), key=lambda pair: (pair[1], pair[0]))
    if len(ordered) <= MOST_POINTS:
        return [(value, f"{case}: {value:+.3f}") for case, value in ordered]
    borders = [round(n * len(ordered) / MOST_POINTS) for n in range(MOST_POINTS + 1)]
    groups = [[v for _, v in ordered[a:b]] for a, b in pairwise(borders)]
    return [(statistics.median(g), f"{len(g)} cases from {g[0]:+.3f} to {g[-1]:+.3f}") for g in groups]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
