"""Cross-entropy over the answers that can be known."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

# The target of what cannot be known: a sample, or a block, that shows nothing.
UNKNOWN = -1


class KnownCrossEntropy(nn.Module):
    """The mean cross-entropy of logits (b, n, classes) for targets (b, n), those that are unknown left out."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean in single precision; 0, with gradients of 0, where nothing is known."""
        # Autocast leaves float32 as it is here; switching it off would fail on devices that do not have it.
        total = cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=UNKNOWN, reduction="sum")
        return total / (target != UNKNOWN).sum().clamp(min=1)
