"""Pictures of masked reconstruction: the image, what the network saw of it, what it made of that, and how far off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.pretext.panel_grid import PanelGrid, grey_range, middle, planes_of, row_name


@dataclass(frozen=True)
class MaskedCase:
    """One sample; arrays are (c, *patch), the mask (*patch)."""

    name: str
    image: NDArray[np.float32]
    masked: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    output: NDArray[np.float32] | None = None

    @classmethod
    def from_sample(cls, sample: dict[str, Any], output: NDArray[np.float32] | None = None) -> MaskedCase:
        """Take what is shown from a sample of a `MaskedSampler`."""
        *_, hidden = target = sample["target"].numpy()
        return cls(sample["keys"][0], target[:-1], sample["image"].numpy(), hidden > 0, output)

    @property
    def filled(self) -> NDArray[np.float32] | None:
        """The image with its hidden voxels as the network has them."""
        return None if self.output is None else np.where(self.hidden, self.output, self.image)


def draw_panel(cases: Sequence[MaskedCase], channels: Sequence[str], title: str, path: Path) -> None:
    """Write a picture with one row for each case and plane; with several channels, one plane of each."""
    columns = ["image", "masked", "reconstruction", "error"]
    if all(case.output is None for case in cases):
        del columns[2:]
    rows = [(case, channel, axis) for case in cases for channel, axis in _views(case.image)]
    grid = PanelGrid(columns, len(rows), title)
    for row, (case, channel, axis) in enumerate(rows):
        image = case.image[channel]
        grey = grey_range(image)
        for column, volumes in enumerate((case.image, case.masked, case.filled)[: min(3, len(columns))]):
            if volumes is not None:
                grid.show(row, column, middle(volumes[channel], axis), **grey)
        if case.filled is not None:
            error = np.abs(case.filled[channel] - image)
            grid.show(row, 3, middle(error, axis), cmap="magma", vmin=0, vmax=(grey["vmax"] - grey["vmin"]) / 2)
        name = case.name if len(case.image) == 1 else f"{case.name}\n{channels[channel]}"
        grid.name_row(row, row_name(name, axis))
    grid.save(path)


def _views(image: NDArray[np.float32]) -> list[tuple[int, int | None]]:
    axes = planes_of(image[0])
    return [(0, axis) for axis in axes] if len(image) == 1 else [(channel, axes[0]) for channel in range(len(image))]
