"""Cutting a volume into windows: where voxels go, how far apart two of a window are, and which may see each other.

All functions are for three axes and windows of equal sides. Volumes are (batch, z, y, x, features).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def padding(size: Sequence[int], window: int) -> tuple[int, ...]:
    """Return how many voxels each axis lacks to a whole number of windows."""
    return tuple(-int(side) % window for side in size)


def shifts(size: Sequence[int], window: int, together: bool) -> tuple[int, ...]:
    """Return half a window for each axis that has more than one; `together`, for none unless all have more."""
    several = [int(side) > window for side in size]
    if together and not all(several):
        return (0, 0, 0)
    return tuple(window // 2 if more else 0 for more in several)


def pad(volume: Tensor, missing: Sequence[int]) -> Tensor:
    """Put zeros behind the end of each axis."""
    if not any(missing):
        return volume
    z, y, x = missing
    return functional.pad(volume, (0, 0, 0, x, 0, y, 0, z))


def roll(volume: Tensor, by: Sequence[int]) -> Tensor:
    """Move a volume along its axes, around the ends."""
    return torch.roll(volume, tuple(by), dims=(1, 2, 3)) if any(by) else volume


def to_windows(volume: Tensor, window: int) -> Tensor:
    """Return (batch * windows, voxels of a window, features), all windows of the first volume first."""
    batch, z, y, x, features = volume.shape
    cut = volume.view(batch, z // window, window, y // window, window, x // window, window, features)
    return cut.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, window**3, features)


def from_windows(windows: Tensor, window: int, size: Sequence[int]) -> Tensor:
    """Put windows together to volumes of a size, the inverse of ``to_windows``."""
    z, y, x = size
    counts = (z // window, y // window, x // window)
    cut = windows.view(-1, *counts, window, window, window, windows.shape[-1])
    return cut.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, z, y, x, windows.shape[-1])


def relative_positions(window: int) -> Tensor:
    """Return for each pair of a window's voxels the row of its bias table: one for each way from one to the other."""
    side = torch.arange(window)
    places = torch.cartesian_prod(side, side, side)
    way = places[:, None] - places[None] + window - 1  # from 0 to 2 * window - 2 along each axis
    steps = torch.tensor([(2 * window - 1) ** 2, 2 * window - 1, 1])
    return (way * steps).sum(-1)


def may_attend(size: tuple[int, ...], window: int, shift: tuple[int, ...], hide_padding: bool, like: Tensor) -> Tensor:
    """Return (windows, voxels, voxels): which voxels of a padded, shifted volume see each other.

    Those that came around the end do not see those that were there, nor, where it is hidden, does any voxel see the
    padding. Each sees itself. Masks are kept from step to step; a compiled network has its own way to do that.
    """
    build = _build_mask if _is_compiling() else _kept_mask
    return build(size, window, shift, hide_padding, like.device)


def _build_mask(
    size: tuple[int, ...], window: int, shift: tuple[int, ...], hide_padding: bool, device: torch.device
) -> Tensor:
    z, y, x = [_same_region(size[axis], window, shift[axis], hide_padding, device) for axis in range(3)]
    along_z = z[:, None, None, :, None, None, :, None, None]
    along_y = y[None, :, None, None, :, None, None, :, None]
    along_x = x[None, None, :, None, None, :, None, None, :]
    return (along_z & along_y & along_x).reshape(-1, window**3, window**3)


def _same_region(side: int, window: int, shift: int, hide_padding: bool, device: torch.device) -> Tensor:
    """Return (windows, voxels, voxels) for one axis."""
    padded = side + -side % window
    before = (torch.arange(padded, device=device) + shift) % padded  # where each voxel was before the shift
    region = (before < shift).long()
    if hide_padding:
        region = region.masked_fill(before >= side, 2)
    region = region.view(-1, window)
    return region[:, :, None] == region[:, None, :]


@lru_cache(maxsize=32)  # two for each resolution with attention and each size of patch
def _kept_mask(*geometry: object) -> Tensor:
    with torch.inference_mode(False):  # a mask that is first made in prediction must serve training, too
        return _build_mask(*geometry)  # type: ignore[arg-type]


def _is_compiling() -> bool:
    compiler = torch.compiler if hasattr(torch.compiler, "is_compiling") else torch._dynamo  # torch before 2.3
    return bool(compiler.is_compiling())
