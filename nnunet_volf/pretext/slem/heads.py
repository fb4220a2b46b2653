"""What stands on the encoder: one answer for the whole combination, or one for each block.

Averaging over the whole image would lose which block is where, so the deepest features are averaged block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Encoder = Callable[[Tensor], Sequence[Tensor]]


def pool_to(grid: Sequence[int]) -> nn.Module:
    """Return the layer that averages features (b, f, *size) to (b, f, *grid)."""
    size = tuple(grid)
    return nn.AdaptiveAvgPool2d(size) if len(size) == 2 else nn.AdaptiveAvgPool3d(size)


class CombinationHead(nn.Module):
    """One class for the whole image: logits (b, 1, classes)."""

    def __init__(self, features: int, blocks: int, pool: nn.Module, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features * blocks, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Classify a batch of images by the deepest features."""
        logits: Tensor = self.layers(self.pool(encoder(x)[-1]))
        return logits[:, None]


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
