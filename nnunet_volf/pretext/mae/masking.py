"""Which blocks of a patch are hidden: drawn as plain values, painted by a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.mae.settings import MAESettings


@dataclass(frozen=True)
class Masking:
    """A grid of blocks over a patch, and the hidden ones by their number in row-major order."""

    blocks: tuple[int, ...]  # an axis
    hidden: tuple[int, ...]


def block_counts(patch: Sequence[int], settings: MAESettings) -> tuple[int, ...]:
    """Return how many blocks there are along each axis."""
    if settings.block_voxels is not None:
        sides: Sequence[float] = settings.block_voxels[-len(patch) :]
    else:
        smallest = settings.block_minimum / max(patch)
        sides = [max(settings.block_fraction, smallest) * side for side in patch]
    return tuple(max(1, min(side, round(side / block))) for side, block in zip(patch, sides, strict=True))


def hidden_count(blocks: Sequence[int], settings: MAESettings) -> int:
    """Return how many blocks are hidden; one at least is, and one is not."""
    total = int(np.prod(blocks))
    return min(max(round(settings.masked * total), 1), total - 1)


def check_masking(patch: Sequence[int], settings: MAESettings) -> None:
    """Refuse masks that hide everything or nothing."""
    if settings.block_voxels is not None and len(settings.block_voxels) < len(patch):
        raise SettingsError(
            f"block_voxels has {len(settings.block_voxels)} numbers and the patch {tuple(patch)} has {len(patch)} "
            "axes. Give one number for each."
        )
    blocks = block_counts(patch, settings)
    if np.prod(blocks) < 2:
        raise SettingsError(
            f"The patch {tuple(patch)} holds a single block of this size, so that all of it or none would be hidden. "
            "Make blocks smaller: block_fraction, block_minimum or block_voxels."
        )


def draw_masking(rng: np.random.Generator, patch: Sequence[int], settings: MAESettings) -> Masking:
    """Draw which blocks are hidden: an exact share of them, each as likely as any other."""
    blocks = block_counts(patch, settings)
    chosen = rng.choice(int(np.prod(blocks)), size=hidden_count(blocks, settings), replace=False)
    return Masking(blocks, tuple(sorted(chosen.tolist())))


def paint_mask(masking: Masking, patch: Sequence[int]) -> NDArray[np.bool_]:
    """Return True where a patch is hidden; block i of n along an axis begins at voxel round(i * side / n)."""
    flat = np.zeros(int(np.prod(masking.blocks)), dtype=bool)
    flat[list(masking.hidden)] = True
    mask = flat.reshape(masking.blocks)
    for axis, (side, count) in enumerate(zip(patch, masking.blocks, strict=True)):
        edges = np.round(np.arange(count + 1) * side / count).astype(int)
        mask = np.repeat(mask, np.diff(edges), axis=axis)
    return mask
