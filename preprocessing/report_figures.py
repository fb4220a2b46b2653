"""Plots of a report as small inline SVG, whose colours the page sets for light, dark and print.

Drawn by hand: matplotlib's SVG of the same plots is ten times as large and cannot follow the page's colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from .report_data import shown

_WIDTH = 340
_LEFT, _RIGHT = 30, 262  # the plot's part of the width: names before it, numbers after it
_ROW, _BAR = 46, 34
_BINS = 36
# Above this ratio of largest to smallest, a linear axis would press most cases into one bar.
_LOGARITHMIC_FROM = 8.0
_LEAST_SHOWN = 1e-4  # of the largest value: where a logarithmic axis begins when values come close to 0
_COLUMNS = 120  # of a profile, at most: more cannot be told apart


@dataclass(frozen=True)
class _Axis:
    """From values to places between two ends of a picture."""

    low: float
    high: float
    logarithmic: bool
    start: float
    end: float

    def at(self, values: NDArray[np.float64] | float) -> NDArray[np.float64]:
        inside = self._bent(np.clip(np.asarray(values, float), self.low, self.high))
        part = (inside - self._bent(self.low)) / (self._bent(self.high) - self._bent(self.low))
        return self.start + part * (self.end - self.start)

    def edges(self) -> NDArray[np.float64]:
        """Borders of the bins, evenly spaced in the picture."""
        return (np.geomspace if self.logarithmic else np.linspace)(self.low, self.high, _BINS + 1)

    def ticks(self) -> list[float]:
        """Round numbers within the axis, six at most."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            mantissas = (1, 2, 5) if self.high < 100 * self.low else (1,)
            ticks = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
        else:
            step = _round_step((self.high - self.low) / 3)
            ticks = [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        inside = [tick for tick in ticks if self.low <= tick <= self.high]
        return inside[:: max(1, math.ceil(len(inside) / 6))]

    def _bent(self, values: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.log(values) if self.logarithmic else np.asarray(values, float)


def spans_scales(intensities: NDArray[np.float64]) -> bool:
    """Say whether cases differ by factors, as MR of several scanners does; a linear axis would show few of them."""
    low, high = np.percentile(intensities[:, 1], (5, 95))
    return bool(intensities.min() >= 0 and low > 0 and high / low > _LOGARITHMIC_FROM)


def histograms(rows: Sequence[tuple[str, NDArray[np.float64]]], unit: str, logarithmic: bool | None = None) -> str:
    """Draw one histogram a row over a shared axis, with the median marked, and the range beside it.

    Args:
        rows: the name and the values of each.
        unit: of the values.
        logarithmic: how the axis runs; None lets the values decide.
    """
    together = np.concatenate([values for _, values in rows])
    axis = _axis_for(together, _LEFT, _RIGHT, logarithmic)
    bottom = _ROW * len(rows)
    parts = []
    for tick in axis.ticks() if together.min() < together.max() else [float(together[0])]:
        x = float(axis.at(tick))
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{bottom - 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 9}">{shown(tick)}</text>')
    parts += [_histogram_row(name, values, axis, unit, _ROW * n) for n, (name, values) in enumerate(rows)]
    return _picture(parts, bottom + 14, f"Histograms in {unit}" if unit else "Histograms")


def profile(intensities: NDArray[np.float64]) -> str:
    """Draw all cases side by side, sorted by median intensity: a band from low to high, and the median as a line.

    `intensities` holds a row (low, median, high) for each case. Many cases share a column, which shows their medians.
    """
    ordered = intensities[np.argsort(intensities[:, 1], kind="stable")]
    columns = np.stack([np.median(part, axis=0) for part in np.array_split(ordered, min(_COLUMNS, len(ordered)))])
    height, left = 130.0, 46.0
    axis = _axis_for(columns[:, (0, 2)], height - 6, 6, spans_scales(intensities))
    x = np.linspace(left, _WIDTH - 4, len(columns)) if len(columns) > 1 else np.array([left, _WIDTH - 4])
    lower, median, upper = (np.resize(axis.at(columns[:, n]), len(x)) for n in range(3))
    parts = []
    for tick in axis.ticks():
        y = float(axis.at(tick))
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - 4}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="level" x="{left - 6}" y="{y + 3.5:.1f}">{shown(tick)}</text>')
    parts.append(f'<path class="band" d="M{_points(x, upper)}L{_points(x[::-1], lower[::-1])}Z"/>')
    parts.append(f'<path class="line" d="M{_points(x, median)}"/>')
    return _picture(parts, height, "Intensities of all cases, sorted by their median")


def _histogram_row(name: str, values: NDArray[np.float64], axis: _Axis, unit: str, top: float) -> str:
    edges = axis.edges()
    # A logarithmic axis may begin above the smallest value, and end below the largest by rounding.
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    x = axis.at(edges)
    base = top + _BAR + 4
    bars = []
    for n in np.flatnonzero(counts):
        # The square root keeps bars of few cases visible beside one that holds nearly all.
        height = max(1.5, _BAR * math.sqrt(counts[n] / counts.max()))
        told = f"{counts[n]:,} of {len(values):,}: {shown(edges[n])} to {shown(edges[n + 1])} {unit}"
        bars.append(
            f'<rect class="bar" x="{x[n]:.1f}" y="{base - height:.1f}" width="{x[n + 1] - x[n] - 0.8:.1f}" '
            f'height="{height:.1f}"><title>{escape(told)}</title></rect>'
        )
    median = float(np.median(values))
    at = float(axis.at(median))
    span = f"{shown(values.min())} to {shown(values.max())}" if values.min() < values.max() else "in all cases"
    return (
        f'<text class="name" x="0" y="{base - 4}">{escape(name)}</text>'
        f'<line class="base" x1="{_LEFT}" x2="{_RIGHT}" y1="{base}" y2="{base}"/>{"".join(bars)}'
        f'<path class="median" d="M{at:.1f} {base + 0.5}l-3.5 5.5h7z"/>'
        f'<text class="value" x="{_RIGHT + 12}" y="{base - 16}">{shown(median)}</text>'
        f'<text class="span" x="{_RIGHT + 12}" y="{base - 3}">{span}</text>'
    )


def _axis_for(values: NDArray[np.float64], start: float, end: float, logarithmic: bool | None = None) -> _Axis:
    low, high = float(values.min()), float(values.max())
    if logarithmic is None:
        logarithmic = low > 0 and high / low > _LOGARITHMIC_FROM
    if logarithmic:
        return _Axis(max(low, high * _LEAST_SHOWN), high, True, start, end)
    return _Axis(*_padded(low, high), False, start, end)


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return a range that is not empty."""
    if high > low:
        return low, high
    room = abs(low) / 2 or 1.0
    return low - room, high + room


def _round_step(most: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50, ... that is not above `most`."""
    power: float = 10.0 ** math.floor(math.log10(most))
    return max(factor * power for factor in (1, 2, 5) if factor == 1 or factor * power <= most)


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _picture(parts: Sequence[str], height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
