"""A picture of rows and columns of planes: what the panels of all pretexts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nnunet_volf.files import replacing

# Intensities beyond these percentiles are shown as black and white.
_SHOWN = (0.5, 99.5)

# That fit over a column.
_LETTERS = 26


class PanelGrid:
    """Cells without ticks, a name over each column and beside each row."""

    def __init__(self, columns: Sequence[str], rows: int, title: str) -> None:
        self.figure = Figure(figsize=(2.3 * len(columns), 2.2 * rows + 0.9), layout="constrained", facecolor="white")
        FigureCanvasAgg(self.figure)
        self.cells = self.figure.subplots(rows, len(columns), squeeze=False)
        for cell in self.cells.flat:
            cell.set_xticks([])
            cell.set_yticks([])
        for cell, name in zip(self.cells[0], columns, strict=True):
            cell.set_title(name, fontsize=10)
        self.figure.suptitle(fill(title, _LETTERS * len(columns)), fontsize=10)

    def name_row(self, row: int, name: str) -> None:
        """Write a name beside a row."""
        self.cells[row, 0].set_ylabel(name, fontsize=8)

    def show(self, row: int, column: int, plane: NDArray[Any], **how: Any) -> Any:
        """Show a plane, voxel by voxel; in grey unless told otherwise."""
        return self.cell(row, column).imshow(plane, **{"cmap": "gray", "interpolation": "nearest", **how})

    def cell(self, row: int, column: int) -> Axes:
        """Return a cell to draw in."""
        cell: Axes = self.cells[row, column]
        return cell

    def save(self, path: Path) -> None:
        """Write the picture."""
        save_picture(self.figure, path)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as aside:
        figure.savefig(aside, dpi=90, format="png")


def middle(volume: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """Return the middle plane across an axis; without an axis, the image as it is."""
    return volume if axis is None else np.take(volume, volume.shape[axis] // 2, axis=axis)


def planes_of(image: NDArray[Any]) -> tuple[int | None, ...]:
    """Return the axes across which an image (x, y, z) or (x, y) is shown."""
    return (0, 1, 2) if image.ndim == 3 else (None,)


def row_name(name: str, axis: int | None) -> str:
    """Return the name of a row that shows a plane of a volume."""
    return name if axis is None else f"{name}\nplane {axis}"


def grey_range(*volumes: NDArray[Any]) -> dict[str, float]:
    """Return the limits in which volumes are shown alike."""
    low, high = np.percentile(np.concatenate([volume.ravel() for volume in volumes]), _SHOWN)
    return {"vmin": float(low), "vmax": float(max(high, low + 1e-6))}
