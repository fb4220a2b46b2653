"""Pictures of fusions: what was mixed, what came out, what the network should find and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

from nnunet_volf.pretext.panel_grid import PanelGrid, grey_range, middle, planes_of, row_name

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
        """Take what is shown from a sample of a `FusionSampler`."""
        target = sample["target"][0] if isinstance(sample["target"], list) else sample["target"]
        background, foreground = (source[0].numpy() for source in sample["sources"])
        name = "\n".join(dict.fromkeys(sample["keys"]))
        return cls(name, background, foreground, sample["image"][0].numpy(), target[0].numpy(), prediction)


def draw_panel(cases: Sequence[PanelCase], coefficients: int, title: str, path: Path) -> None:
    """Write a picture with one row for each case and plane (three planes in 3D)."""
    rows = [(case, axis) for case in cases for axis in planes_of(case.fused)]
    columns = ["background", "foreground", "fused image", "target", "prediction"]
    if all(case.prediction is None for case in cases):
        columns.pop()
    grid = PanelGrid(columns, len(rows), title)
    as_class = {"cmap": class_colours(coefficients), "vmin": -0.5, "vmax": coefficients + 0.5}
    for row, (case, axis) in enumerate(rows):
        as_image = grey_range(case.background, case.foreground)
        volumes = (case.background, case.foreground, case.fused, case.target, case.prediction)
        for column, volume in enumerate(volumes[: len(columns)]):
            if volume is not None:
                shown = grid.show(row, column, middle(volume, axis), **(as_image if column < 3 else as_class))
        grid.name_row(row, row_name(case.name, axis))
    bar = grid.figure.colorbar(shown, ax=grid.cells[:, 3:], ticks=range(coefficients + 1), shrink=0.5, location="right")
    bar.ax.set_yticklabels([f"{k}/{coefficients}" for k in range(coefficients + 1)], fontsize=8)
    grid.save(path)


def class_colours(coefficients: int) -> ListedColormap:
    """Return one colour a class, interpolated so that any number of coefficients is ordered."""
    anchors = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in _COLOURS])
    at = np.linspace(0, len(anchors) - 1, coefficients + 1)
    return ListedColormap([tuple(np.interp(x, range(len(anchors)), anchors[:, c]) for c in range(3)) for x in at])
