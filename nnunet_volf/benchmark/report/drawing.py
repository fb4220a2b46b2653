"""What the charts of a benchmark are drawn with: axes, markers and colours of the arms, and small pieces of SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# The page's style sheet gives a colour to each of arm0 ... arm6 and the shape tells arms apart without colours. Known
# arms have their own, so that they look the same on every page; others take those that are free, from the fifth on.
_USUAL = {"scratch": 0, "volf": 1, "encoder": 2, "stock": 3, "mae": 4, "voco": 5, "slem": 6}
_OTHERS = (4, 5, 6, 1, 2, 3)
# Corners of each marker around (0, 0), for a size of 1. Scratch is a circle, which has none.
_CORNERS: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    2: ((0, -1.2), (1.15, 0.85), (-1.15, 0.85)),
    3: ((-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)),
    4: ((0, 1.2), (1.15, -0.85), (-1.15, -0.85)),
    5: ((-1.05, -1.15), (1.05, -1.15), (-1.05, 1.15), (1.05, 1.15)),
    6: tuple((1.2 * math.sin(math.tau * n / 5), -1.2 * math.cos(math.tau * n / 5)) for n in range(5)),
}


@dataclass(frozen=True)
class Axis:
    """From values to places between two ends of a picture."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value; one beyond the ends is drawn at the end, and a lone one in the middle."""
        low, high, inside = (self._bent(v) for v in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.start + (self.end - self.start) * ((inside - low) / (high - low) if high > low else 0.5)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers within a linear axis."""
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def _bent(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def axis_over(values: Sequence[float], start: float, end: float, room: float = 0.06) -> Axis:
    """Return a linear axis that holds all values with some room beyond them."""
    low, high = min(values), max(values)
    more = (high - low) * room or 0.05
    return Axis(low - more, high + more, start, end)


def styles_of(arms: Sequence[str]) -> dict[str, int]:
    """Return the number of each arm's colour and marker: fixed for the usual arms, in turn for the others."""
    usual = {arm: _USUAL[arm] for arm in arms if arm in _USUAL}
    free = [style for style in _OTHERS if style not in usual.values()] or list(_OTHERS)
    others = [arm for arm in arms if arm not in usual]
    return {**usual, **{arm: free[n % len(free)] for n, arm in enumerate(others)}}


def marker(x: float, y: float, style: int, size: float = 4.5) -> str:
    """Draw an arm's marker."""
    if style not in _CORNERS:
        return f'<circle class="mark arm{style}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>'
    corners = " ".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in _CORNERS[style])
    return f'<polygon class="mark arm{style}" points="{corners}"/>'


def legend_marker(style: int) -> str:
    """Draw a marker on its own, for a line of text."""
    return f'<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">{marker(0, 0, style)}</svg>'


def polyline(kind: str, points: Sequence[tuple[float, float]]) -> str:
    """Draw a line through points."""
    return f'<path class="{kind}" d="M{_through(points)}"/>'


def band(kind: str, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]]) -> str:
    """Fill what lies between two lines."""
    return f'<path class="{kind}" d="M{_through(upper)}L{_through(lower[::-1])}Z"/>'


def segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def words(kind: str, x: float, y: float, text: str) -> str:
    """Write text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def group(title: str, parts: Sequence[str]) -> str:
    """Put parts together under a title, which browsers show beside the pointer."""
    return f"<g><title>{escape(title)}</title>{''.join(parts)}</g>"


def picture(width: float, height: float, told: str, parts: Sequence[str]) -> str:
    """Return the whole drawing; `told` says what it shows to those who do not see it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(told)}">'
        f"<title>{escape(told)}</title>{''.join(parts)}</svg>"
    )


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places down where neighbours are closer than `gap`, and all back up where they pass `high`."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    placed = dict.fromkeys(order, 0.0)
    last = low - gap
    for n in order:
        last = placed[n] = max(wanted[n], last + gap)
    last = high + gap
    for n in reversed(order):
        last = placed[n] = min(placed[n], last - gap)
    return [placed[n] for n in range(len(wanted))]


def _through(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
