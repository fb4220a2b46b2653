"""What stands on the encoder: one answer for the whole combination, or one for each block.

Averaging over the whole image would lose which block is where, so the deepest features are averaged block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from nnunet_volf.pretext.slem.codes import Code

Encoder = Callable[[Tensor], Sequence[Tensor]]


def pool_to(grid: Sequence[int]) -> nn.Module:
    """Return the layer that averages features (b, f, *size) to (b, f, *grid)."""
    size = tuple(grid)
    return nn.AdaptiveAvgPool2d(size) if len(size) == 2 else nn.AdaptiveAvgPool3d(size)


class CombinationHead(nn.Module):
    """One class for the whole image: logits (b, 1, classes)."""

    def __init__(self, features: int, pool: nn.Module, table: Sequence[Code], hidden: int, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features * len(table[0]), hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            CodedClasses(hidden, table),
        )

    def forward(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Classify a batch of images by the deepest features."""
        logits: Tensor = self.layers(self.pool(encoder(x)[-1]))
        return logits[:, None]


class CodedClasses(nn.Module):
    """A linear layer to one logit a class, whose weights are in part those of all classes that agree on a block.

    It computes what any linear layer can. But of hundreds of classes each is seen rarely, and what is learnt from one
    has to reach those that differ from it in a block only.
    """

    parts: Tensor

    def __init__(self, features: int, table: Sequence[Code]) -> None:
        super().__init__()
        codes = torch.tensor(table)
        parts = one_hot(codes).flatten(1).float()  # (classes, blocks * symbols)
        self.register_buffer("parts", parts, persistent=False)
        self.own = nn.Linear(features, len(table))
        self.shared = nn.Linear(features, parts.shape[1])

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of features (b, f)."""
        logits: Tensor = self.own(features) + self.shared(features) @ self.parts.T
        return logits


class BlockHead(nn.Module):
    """One symbol for each block, by a layer that all blocks share: logits (b, blocks, symbols)."""

    def __init__(self, features: int, pool: nn.Module, symbols: int) -> None:
        super().__init__()
        self.pool = pool
        self.layer = nn.Linear(features, symbols)

    def forward(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Classify each block of a batch of images by its deepest features."""
        logits: Tensor = self.layer(self.pool(encoder(x)[-1]).flatten(2).transpose(1, 2))
        return logits
