"""Exchange the channels of an image, block by block, as a code says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnunet_volf.pretext.slem.codes import Code, Codes
from nnunet_volf.pretext.slem.grid import blocks_of


def recombine(image: Tensor, grid: Sequence[int], codes: Codes, code: Code) -> Tensor:
    """Return an image (c, *size) recombined; the input is left as it is.

    In the modes "cyclic" and "permutation" every block still holds every channel once. "mosaic" shows one channel a
    block, in all channels alike and divided by their number, so that their sum is that channel.
    """
    blocks = blocks_of(image.shape[1:], grid)
    recombined = torch.empty_like(image)
    for number, (block, symbol) in enumerate(zip(blocks, code, strict=True)):
        here = (slice(None), *block)
        source = (slice(None), *blocks[codes.source(symbol, number)])
        recombined[here] = image[source][list(codes.shown(symbol))]
    return recombined / codes.channels if codes.mode == "mosaic" else recombined
