"""Samples of SLeM: a crop, its channels made hard to tell apart by brightness alone, recombined by a code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nnunet_volf.augment import Look, augment, draw_look
from nnunet_volf.cases import CaseImage, UnlabeledCases
from nnunet_volf.crops import draw_crop
from nnunet_volf.parcels import Parcel
from nnunet_volf.pretext.contrast import shows
from nnunet_volf.pretext.pretext import Sample, Sampler
from nnunet_volf.pretext.slem.appearance import Shade, blank, draw_shade, empty_voxels, equalise
from nnunet_volf.pretext.slem.codes import Code, Codes
from nnunet_volf.pretext.slem.grid import Block, block_size, blocks_of
from nnunet_volf.pretext.slem.loss import UNKNOWN
from nnunet_volf.pretext.slem.recombination import recombine
from nnunet_volf.pretext.slem.settings import SLeMSettings

# A crop in which some channel shows nothing in some block is drawn again, this often at most.
REDRAWS = 5

# Whether a block shows something is seen from about this many voxels along each axis.
LOOKED_AT = 16


@dataclass(frozen=True)
class DrawnCode:
    """All that is drawn for a crop of patch size, and where it comes from."""

    key: str
    look: Look  # without flips, which come before blocks are looked at
    shade: Shade
    code: Code
    target: tuple[int, ...]


@dataclass(frozen=True)
class RecombinationSampler(Sampler):
    """How samples are made: all a loader worker needs, and all of it picklable."""

    patch: tuple[int, ...]
    grid: tuple[int, ...]
    settings: SLeMSettings
    codes: Codes
    table: tuple[Code, ...] | None  # the code of each class; None: each block is asked for on its own

    def collect(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> Parcel:
        """Read a crop, bring it to the patch, look at what of it can be told, and draw the rest."""
        look = draw_look(rng, self.codes.channels, len(self.patch), self.settings)
        shade = draw_shade(rng, self.codes.channels, self.settings)
        image, known = self._draw_image(rng, cases.open(identifier), Look(look.flips))
        code, target = self._draw_target(rng, known)  # last: a flip would move the blocks and change the code
        return Parcel((image,), DrawnCode(identifier, replace(look, flips=()), shade, code, target))

    def make(self, parcel: Parcel) -> list[Sample]:
        """Return one sample, with the ``original`` that was recombined and the ``code`` that it was recombined by."""
        drawn: DrawnCode = parcel.drawn
        (image,) = parcel.crops
        empty = empty_voxels(image)
        original = blank(equalise(augment(image, self.patch, drawn.look), empty, drawn.shade), empty)
        recombined = recombine(original, self.grid, self.codes, drawn.code)
        target = torch.tensor(drawn.target, device=image.device)
        keys = (drawn.key,)
        return [{"image": recombined, "target": target, "keys": keys, "original": original, "code": drawn.code}]

    def _draw_image(self, rng: np.random.Generator, case: CaseImage, look: Look) -> tuple[Tensor, Tensor]:
        """Return a crop of patch size in which all can be told, or the last of a few, and which blocks can be told."""
        for _ in range(1 + REDRAWS):
            crop, _ = draw_crop(rng, case, self.patch, self.settings)
            image = augment(crop, self.patch, look)
            known = tellable_blocks(image, self.grid)
            if known.all():
                break
        return image, known

    def _draw_target(self, rng: np.random.Generator, known: Tensor) -> tuple[Code, tuple[int, ...]]:
        """Draw a code, and return with it what is asked: its class, or what each block shows."""
        if self.table is None:
            code = self.codes.draw(rng)
            shown = known[[self.codes.source(symbol, block) for block, symbol in enumerate(code)]]
            return code, tuple(symbol if seen else UNKNOWN for symbol, seen in zip(code, shown, strict=True))
        number = int(rng.integers(len(self.table)))
        return self.table[number], (number if known.all() else UNKNOWN,)


def tellable_blocks(image: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return for each block of an image (c, *size) whether every channel shows something in it.

    The code of one that is empty, or that lacks a channel, could not be known or would be too easily known.
    """
    size = tuple(image.shape[1:])
    blocks, (whole,) = blocks_of(size, grid), blocks_of(size, [1] * len(size))
    smallest = [min(sides) for sides in zip(*map(block_size, blocks), strict=True)]
    steps = [max(1, side // LOOKED_AT) for side in smallest]
    parts = [image[_every(block, smallest, steps)] for block in blocks]  # without the last voxel of larger blocks
    return shows(torch.stack(parts), image[_every(whole, size, steps)]).all(1)


def _every(block: Block, size: Sequence[int], steps: Sequence[int]) -> tuple[slice, ...]:
    """Return, for all channels, every so many voxels of a block, up to a size."""
    axes = zip(block, size, steps, strict=True)
    return (slice(None), *(slice(axis.start, axis.start + side, step) for axis, side, step in axes))
