"""The card that pictures of the README are drawn on: dark like scans are, and the same on light and dark pages."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CARD, INK, QUIET = "#222938", "#e6e9ef", "#8b93a7"


def card(size: tuple[float, float]) -> Figure:
    """Return an empty card of so many inches."""
    figure = Figure(figsize=size, facecolor=CARD)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a card as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=CARD)
