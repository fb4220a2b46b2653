"""Pictures of fusions: what was mixed, what came out, what the network should find and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Background dark, then one hue that brightens with the share of the foreground: the order of the classes can be seen.
_COLOURS = ("#10141f", "#31446b", "#4f7cac", "#7fb7be", "#f2d0a4", "#e76f51")


@dataclass(frozen=True)
class PanelCase:
    """One fused sample; volumes are (x, y, z) or (x, y), the first channel of the image."""

    name: str
    background: NDArray[np.float32]
    foreground: NDArray[np.float32]
    fused: NDArray[np.float32]
    target: NDArray[np.uint8]
    prediction: NDArray[np.uint8] | None = None

    @classmethod
    def from_sample(cls, sample: dict[str, Any], prediction: NDArray[np.uint8] | None = None) -> PanelCase:
        """Take what is shown from a sample of a `FusionLoader`."""
        target = sample["target"][0] if isinstance(sample["target"], list) else sample["target"]
        background, foreground = (source[0].numpy() for source in sample["sources"])
        name = "\n".join(dict.fromkeys(sample["keys"]))
        return cls(name, background, foreground, sample["image"][0].numpy(), target[0].numpy(), prediction)


def draw_panel(cases: Sequence[PanelCase], coefficients: int, title: str, path: Path) -> None:
    """Write a picture with one row for each case and plane (three planes in 3D)."""
    rows = [(case, axis) for case in cases for axis in (range(3) if case.fused.ndim == 3 else (None,))]
    columns = ["background", "foreground", "fused image", "target", "prediction"]
    if all(case.prediction is None for case in cases):
        columns.pop()

    figure = Figure(figsize=(2.3 * len(columns), 2.2 * len(rows) + 0.9), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    colours = class_colours(coefficients)
    for row, (case, axis) in enumerate(rows):
        volumes = (case.background, case.foreground, case.fused, case.target, case.prediction)
        grey = _grey_range(case)
        for column, volume in enumerate(volumes[: len(columns)]):
            cell = axes[row, column]
            cell.set_xticks([])
            cell.set_yticks([])
            if volume is None:
                continue
            plane = volume if axis is None else np.take(volume, volume.shape[axis] // 2, axis=axis)
            if column < 3:
                cell.imshow(plane, cmap="gray", vmin=grey[0], vmax=grey[1], interpolation="nearest")
            else:
                shown = cell.imshow(plane, cmap=colours, vmin=-0.5, vmax=coefficients + 0.5, interpolation="nearest")
        axes[row, 0].set_ylabel(case.name if axis is None else f"{case.name}\nplane {axis}", fontsize=8)
    for column, name in enumerate(columns):
        axes[0, column].set_title(name, fontsize=10)
    bar = figure.colorbar(shown, ax=axes[:, 3:], ticks=range(coefficients + 1), shrink=0.5, location="right")
    bar.ax.set_yticklabels([f"{k}/{coefficients}" for k in range(coefficients + 1)], fontsize=8)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def class_colours(coefficients: int) -> ListedColormap:
    """Return one colour a class, interpolated so that any number of coefficients is ordered."""
    anchors = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in _COLOURS])
    at = np.linspace(0, len(anchors) - 1, coefficients + 1)
    return ListedColormap([tuple(np.interp(x, range(len(anchors)), anchors[:, c]) for c in range(3)) for x in at])


def _grey_range(case: PanelCase) -> tuple[float, float]:
    values = np.concatenate([case.background.ravel(), case.foreground.ravel()])
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))
