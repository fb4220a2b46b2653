"""Draw the figures of docs/pctnet.md and docs/fmunet.md: the stages of a network, and the block that they are made of.

python benchmarks/blocks.py docs/images
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from figure import CARD, INK, QUIET
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

# The colours of the fusion classes, so that all figures belong together.
CONVOLUTION, ATTENTION, SUM = "#6898b5", "#e76f51", "#d5c9a9"
WIDTH, HEIGHT = 10.6, 5.4  # inches, and the units of all places below


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    mpl.rcParams["svg.hashsalt"] = "nnunet-volf"  # the same drawing gives the same file
    draw_pct_net(folder / "pctnet.svg")
    draw_fm_unet(folder / "fmunet.svg")


def draw_pct_net(path: Path) -> None:
    """Draw convolutions and window attention side by side."""
    axes = card("PCT-Net", "convolutions above, both paths below", "The parallel block", "of levels 2, 3 and 4")
    stages(axes, (24, 48, 128, 256, 512), attending=2, deepest="")
    middle, left, right, top, step, end = 7.5, 6.35, 9.0, 3.55, 0.82, 0.35
    box(axes, middle, 4.3, "features", QUIET, 1.2)
    line(axes, (middle, 4.14), (middle, 4.0))
    line(axes, (left, 4.0), (right, 4.0))
    for x in (left, right):
        line(axes, (x, 4.0), (x, top + 0.17), arrow_at_end=True)
    box(axes, left, top, "norm, PReLU, conv 3³", CONVOLUTION, 2.1)
    line(axes, (left, top - 0.16), (left, top - 0.6), arrow_at_end=True)
    box(axes, left, top - 0.87, "norm, PReLU, dropout,\nconv 3³", CONVOLUTION, 2.1, lines=2)
    parts = ("attention in windows of 6³", "perceptron", "the same, windows moved", "perceptron")
    for number, text in enumerate(parts):
        y = top - step * number
        if number:
            line(axes, (right, y + step - 0.3), (right, y + 0.17), arrow_at_end=True)
        box(axes, right, y, text, ATTENTION, 2.3)
        with_way_around(axes, right, y, right + 1.35)
    for x, y in ((left, top - 1.13), (right, top - 3 * step - 0.43)):
        axes.plot([x, x], [y, end], color=QUIET, linewidth=1.3, zorder=1)
        line(axes, (x, end), (middle + (0.12 if x > middle else -0.12), end), arrow_at_end=True)
    circle(axes, middle, end)
    save(axes, path)


def draw_fm_unet(path: Path) -> None:
    """Draw convolutions with a way around each."""
    axes = card("FMUNet", "two convolutions at each place", "The residual block", "a way around every convolution")
    stages(axes, (32, 64, 128, 256, 512), attending=None, deepest="512, twice")
    x = 7.6
    box(axes, x, 4.3, "features", QUIET, 1.2)
    for y, start in ((3.4, 4.14), (2.3, 2.98)):
        line(axes, (x, start), (x, y + 0.17), arrow_at_end=True)
        box(axes, x, y, "norm, leaky ReLU, dropout, conv 3³", CONVOLUTION, 3.3)
        with_way_around(axes, x, y, x + 1.95)
    line(axes, (x, 1.88), (x, 1.5), arrow_at_end=True)
    save(axes, path)


def stages(axes: Axes, widths: Sequence[int], attending: int | None, deepest: str) -> None:
    """Draw the U: a bar a level, the finer the longer, and what joins the two sides."""
    middle, step, last = 2.55, 0.85, len(widths) - 1
    for level, features in enumerate(widths):
        y, length = 4.0 - step * level, 1.4 - 0.15 * level
        colour = CONVOLUTION if attending is None or level < attending else ATTENTION
        if level == last:
            box(axes, middle, y, deepest or str(features), colour, 2.3)
            continue
        places = [middle + side * (0.5 + length / 2) for side in (-1, 1)]
        for x in places:
            box(axes, x, y, str(features), colour, length)
        line(axes, (places[0] + length / 2, y), (places[1] - length / 2, y), dashed=True)
        aside = 0.85
        line(axes, (middle - aside, y - 0.16), (middle - aside, y - step + 0.17), arrow_at_end=True)
        line(axes, (middle + aside, y - step + 0.16), (middle + aside, y - 0.17), arrow_at_end=True)
        axes.text(places[1] + length / 2 + 0.08, y, "→ head", color=QUIET, fontsize=10, va="center")
    for level in (0, last):
        axes.text(
            0.15,
            4.0 - step * level + (0.36 if level == 0 else 0),
            f"level {level}",
            color=QUIET,
            fontsize=10,
            va="center",
        )


# ----------------------------------------------------------------------------------------- what figures are made of


def card(left: str, below_left: str, right: str, below_right: str) -> Axes:
    """Return a card with two titles; it is dark like the images, and so the same on a light and on a dark page."""
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor=CARD)
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.set_axis_off()
    for x, title, meaning in ((0.15, left, below_left), (5.2, right, below_right)):
        axes.text(x, 5.08, title, color=INK, fontsize=15, weight="bold", va="center")
        axes.text(x, 4.74, meaning, color=QUIET, fontsize=11, va="center")
    return axes


def box(axes: Axes, x: float, y: float, text: str, colour: str, width: float, lines: int = 1) -> None:
    """Draw a box around a place."""
    half = 0.16 + 0.1 * (lines - 1)
    shape = FancyBboxPatch(
        (x - width / 2, y - half), width, 2 * half, boxstyle="round,pad=0,rounding_size=0.06", facecolor=CARD,
        edgecolor=colour, linewidth=1.6, zorder=2,
    )  # fmt: skip
    axes.add_patch(shape)
    axes.text(x, y, text, color=INK, fontsize=10.5, ha="center", va="center", zorder=3, linespacing=1.1)


def circle(axes: Axes, x: float, y: float) -> None:
    """Draw a sum."""
    axes.text(
        x, y, "+", color=INK, fontsize=12, ha="center", va="center", zorder=3,
        bbox={"boxstyle": "circle,pad=0.15", "facecolor": CARD, "edgecolor": SUM, "linewidth": 1.6},
    )  # fmt: skip


def line(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], arrow_at_end: bool = False, dashed: bool = False
) -> None:
    """Draw a line."""
    style = {"arrowstyle": "-|>" if arrow_at_end else "-", "color": QUIET, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops={**style, "linestyle": "--" if dashed else "-"}, zorder=1)


def with_way_around(axes: Axes, x: float, y: float, side: float) -> None:
    """Draw a way around a box, from above it to a sum below it."""
    above, below = y + 0.28, y - 0.32
    axes.plot([x, side, side, x], [above, above, below, below], color=SUM, linewidth=1.3, zorder=1)
    axes.plot([x, x], [y - 0.16, below], color=QUIET, linewidth=1.3, zorder=1)
    circle(axes, x, below)


def save(axes: Axes, path: Path) -> None:
    """Write the file, without the date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(path, facecolor=CARD, metadata={"Date": None})


if __name__ == "__main__":
    main()
