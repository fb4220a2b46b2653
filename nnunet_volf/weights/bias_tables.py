"""Tables of the attention's bias by relative position, from the rows of another index to Swin's.

A table has one row for each way from one voxel of a window to another, (2w - 1)^3 of them. Swin's index (Liu et al.
2021) counts them with the strides (2w - 1)^2, 2w - 1 and 1. MIS-FM's code has the strides 3w - 1, 2w - 1 and 1, so most
of its rows are never used and several ways share one. Picking for each way the row that it used there gives a table
that means the same under Swin's index, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_volf.networks.windows import relative_positions


def window_of(table: Tensor) -> int | None:
    """Return the side of the windows that a table is for, if it is for any."""
    side = round(float(table.shape[0]) ** (1 / 3)) if table.ndim == 2 else 0
    return (side + 1) // 2 if side % 2 and side**3 == table.shape[0] else None


def rows_of_mis_fm(window: int) -> Tensor:
    """Return for each way, in Swin's order, the row that MIS-FM's code takes."""
    step = torch.arange(2 * window - 1)
    z, y, x = step[:, None, None], step[None, :, None], step[None, None, :]
    return ((3 * window - 1) * z + (2 * window - 1) * y + x).flatten()


def rows_of(index: Tensor, window: int) -> Tensor | None:
    """Return for each way, in Swin's order, the row that an index over pairs of voxels takes; None if it is not one."""
    if tuple(index.shape) != (window**3, window**3) or index.is_floating_point():
        return None
    ways = relative_positions(window)
    rows = torch.zeros((2 * window - 1) ** 3, dtype=torch.long)
    rows[ways] = index.long()
    valid = torch.equal(rows[ways], index.long()) and int(rows.min()) >= 0 and int(rows.max()) < len(rows)
    return rows if valid else None


def widened(table: Tensor, window: int) -> Tensor:
    """Return a table for larger windows: the same for the ways that there were, and zero for longer ones."""
    side, wanted = 2 * (window_of(table) or 1) - 1, 2 * window - 1
    margin = (wanted - side) // 2
    cube = table.new_zeros(wanted, wanted, wanted, table.shape[1])
    middle = slice(margin, margin + side)
    cube[middle, middle, middle] = table.reshape(side, side, side, -1)
    return cube.reshape(-1, table.shape[1])
