"""Pictures of regions: the grid of base crops, the targets, and beside each where it lies and where it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from nnunet_volf.pretext.panel_grid import grey_range, middle, save_picture
from nnunet_volf.pretext.voco.geometry import Region, Start
from nnunet_volf.pretext.voco.labels import split_labels

Map = NDArray[np.float32]

# Targets beyond these are not shown. One colour each, by Okabe and Ito: told apart by all eyes, and on grey.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7")


@dataclass(frozen=True)
class PanelCase:
    """One region: its first channel, the targets as the network sees them, and maps (*grid), NaN where none counts."""

    name: str
    image: Map  # (*size)
    starts: Sequence[Start]
    crops: Map  # (t, *crop)
    true: Map  # (t, n)
    predicted: Map | None = None  # (t, n)

    @classmethod
    def from_sample(cls, sample: dict[str, Any], predicted: Tensor | None = None) -> PanelCase:
        """Take what is shown from a sample, and the overlaps that were predicted for it (t, n)."""
        shares, targets, bases = split_labels(sample["target"][None])
        counted = (targets[0, :, None] & bases[0]).numpy()

        def among_those_that_count(values: Tensor) -> Map:
            return np.where(counted, values.numpy(), np.float32(np.nan))

        return cls(
            name="\n".join(sample["keys"]),
            image=sample["region"][0].numpy(),
            starts=sample["starts"],
            crops=sample["image"][bases.shape[1] :, 0].numpy(),
            true=among_those_that_count(shares[0]),
            predicted=None if predicted is None else among_those_that_count(predicted),
        )


def draw_panel(cases: Sequence[PanelCase], region: Region, title: str, path: Path) -> None:
    """Write a picture with rows for each case: target crops, true maps and, where there are any, predicted ones."""
    shown = min(len(cases[0].starts), len(_COLOURS))
    rows = ["as seen", "true overlap"] + ["predicted"] * (cases[0].predicted is not None)
    figure = Figure(
        figsize=(1.5 * len(rows) + 1.7 * shown, 1.6 * len(rows) * len(cases) + 0.8),
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    grid = figure.add_gridspec(len(cases) * len(rows), 1 + shown, width_ratios=[len(rows), *[1] * shown])
    for number, case in enumerate(cases):
        first = number * len(rows)
        _draw_region(figure.add_subplot(grid[first : first + len(rows), 0]), case, region)
        for target in range(shown):
            cells = [figure.add_subplot(grid[first + row, 1 + target]) for row in range(len(rows))]
            _draw_crop(cells[0], case, target, region)
            maps = [case.true] if case.predicted is None else [case.true, case.predicted]
            for cell, values in zip(cells[1:], maps, strict=True):
                _draw_map(cell, layers(values[target], region))
            if target == 0:
                for cell, name in zip(cells, rows, strict=True):
                    cell.set_ylabel(name, fontsize=8)
    save_picture(figure, path)


def hidden_axis(region: Region) -> int | None:
    """Return the axis that pictures are looked along, the one with the fewest layers; None in 2D."""
    return None if len(region.grid) == 2 else region.grid.index(min(region.grid))


def layers(values: Map, region: Region) -> Map:
    """Return a map (n) over the grid in two axes: its layers beside each other, the nearest left, with gaps of NaN."""
    on_grid: Map = values.reshape(region.grid)
    axis = hidden_axis(region)
    if axis is None:
        return on_grid
    stack: Map = np.moveaxis(on_grid, axis, 0)
    gap = np.full_like(stack[0][:, :1], np.nan)
    spaced = [part for layer in stack for part in (gap, layer)]
    return np.concatenate(spaced[1:], axis=1)


def _in_plane(values: Sequence[int], region: Region) -> tuple[int, int]:
    """Return the two numbers of those axes that are shown."""
    shown = [value for axis, value in enumerate(values) if axis != hidden_axis(region)]
    return shown[0], shown[1]


def _draw_region(cell: Axes, case: PanelCase, region: Region) -> None:
    plane = middle(case.image, hidden_axis(region))
    limits: dict[str, Any] = grey_range(case.image)
    cell.imshow(plane, cmap="gray", interpolation="nearest", **limits)
    height, width = _in_plane(region.crop, region)
    for base in {_in_plane(start, region) for start in region.bases}:
        _box(cell, base, (height, width), "white", 0.6)
    for start, colour in zip(case.starts, _COLOURS, strict=False):
        _box(cell, _in_plane(start, region), (height, width), colour, 2.0)
    _bare(cell)
    cell.set_ylabel(case.name, fontsize=8)


def _box(cell: Axes, start: tuple[int, int], size: tuple[int, int], colour: str, line: float) -> None:
    corner = (start[1] - 0.5, start[0] - 0.5)  # voxels are drawn around their numbers
    cell.add_patch(Rectangle(corner, size[1], size[0], fill=False, edgecolor=colour, linewidth=line))


def _draw_crop(cell: Axes, case: PanelCase, target: int, region: Region) -> None:
    cell.imshow(middle(case.crops[target], hidden_axis(region)), cmap="gray", interpolation="nearest")
    _bare(cell)
    for spine in cell.spines.values():
        spine.set(edgecolor=_COLOURS[target], linewidth=2.5)


def _draw_map(cell: Axes, values: Map) -> None:
    cell.imshow(np.ma.masked_invalid(values), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if value > 0.6 else "white"
            cell.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    if not np.isfinite(values).any():
        cell.text(0.5, 0.5, "shows nothing", ha="center", va="center", fontsize=7, transform=cell.transAxes)
    _bare(cell)


def _bare(cell: Axes) -> None:
    cell.set_xticks([])
    cell.set_yticks([])
