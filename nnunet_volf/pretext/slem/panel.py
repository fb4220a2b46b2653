"""Pictures of recombinations: the channels as they were, as the network sees them, and what it says was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nnunet_volf.pretext.panel_grid import PanelGrid, grey_range
from nnunet_volf.pretext.slem.codes import Code, Codes
from nnunet_volf.pretext.slem.grid import Block, blocks_of

RIGHT, WRONG, TRUE = "#2fbf71", "#ff5c5c", "#ffd166"


@dataclass(frozen=True)
class PanelCase:
    """One sample: the channels (c, *size) before and after, the code that was used, and the one that was found."""

    name: str
    original: NDArray[np.float32]
    recombined: NDArray[np.float32]
    code: Code
    found: Code | None = None


def draw_panel(
    cases: Sequence[PanelCase], codes: Codes, grid: Sequence[int], channels: Sequence[str], title: str, path: Path
) -> None:
    """Write a picture with one row for each sample and, in 3D, for each layer of blocks along the first axis."""
    predicted = any(case.found is not None for case in cases)
    columns = [*channels, *(f"seen as {name}" for name in channels), "code", *(["found"] if predicted else [])]
    rows = [(case, layer) for case in cases for layer in range(grid[0] if len(grid) == 3 else 1)]
    panel = PanelGrid(columns, len(rows), f"{title}\nNumbers: {code_in_words(codes)}")
    for row, (case, layer) in enumerate(rows):
        _draw_row(panel, row, case, layer, codes, grid)
    panel.save(path)


def code_in_words(codes: Codes) -> str:
    """Say what the numbers in the blocks mean."""
    shown = {
        "cyclic": "by how many places the channels of a block are moved on",
        "mosaic": "the channel that a block shows",
        "permutation": "the channels that a block shows, in order",
    }[codes.mode]
    return f"the block that a block comes from, and {shown}" if codes.shuffle else shown


def symbol_text(codes: Codes, symbol: int) -> str:
    """Return what is written into a block."""
    order = symbol % codes.orders
    text = " ".join(str(channel) for channel in codes.shown(symbol)) if codes.mode == "permutation" else str(order)
    return f"{codes.source(symbol, 0)}: {text}" if codes.shuffle else text


def _draw_row(panel: PanelGrid, row: int, case: PanelCase, layer: int, codes: Codes, grid: Sequence[int]) -> None:
    """Draw the middle slice of a layer of blocks; a 2D image is one layer."""
    blocks = dict(enumerate(blocks_of(case.original.shape[1:], grid)))
    at = None
    if len(grid) == 3:
        a_layer = len(blocks) // grid[0]
        blocks = {number: block for number, block in blocks.items() if number // a_layer == layer}
        first_axis = blocks[layer * a_layer][0]
        at = (first_axis.start + first_axis.stop) // 2
    planes = [volume if at is None else volume[at] for volume in (*case.original, *case.recombined)]
    channels = len(case.original)
    for column, plane in enumerate(planes):
        panel.show(row, column, plane, **grey_range(plane))
        if column >= channels:
            _draw_borders(panel.cell(row, column), blocks)
    for column, code in enumerate((case.code, case.found), start=2 * channels):
        if code is None:
            continue
        panel.show(row, column, planes[channels], **grey_range(planes[channels]), alpha=0.35)
        cell = panel.cell(row, column)
        _draw_borders(cell, blocks)
        for number, block in blocks.items():
            colour = RIGHT if code[number] == case.code[number] else WRONG
            _write(cell, block, symbol_text(codes, code[number]), TRUE if column == 2 * channels else colour)
    panel.name_row(row, case.name if at is None else f"{case.name}\nslice {at}")


def _write(cell: Axes, block: Block, text: str, colour: str) -> None:
    down, across = ((axis.start + axis.stop - 1) / 2 for axis in block[-2:])
    cell.text(across, down, text, color="black", backgroundcolor=colour, fontsize=9, ha="center", va="center")


def _draw_borders(cell: Axes, blocks: Mapping[int, Block]) -> None:
    for down, across in (block[-2:] for block in blocks.values()):
        corner = (across.start - 0.5, down.start - 0.5)
        size = (across.stop - across.start, down.stop - down.start)
        cell.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#4f9dde", linewidth=0.8))
