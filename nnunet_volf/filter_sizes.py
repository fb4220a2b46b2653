"""How large filters are: no matter for what a network computes, where a normalisation follows, but for how it learns.

Instance and batch normalisation divide out any factor, so a filter that is twice as large gives the same output, and a
step of the same length turns it half as far: its learning rate is, in effect, half as high (van Laarhoven 2017, arXiv
1706.05350; Hoffer et al. 2018, arXiv 1803.01814). Training makes filters larger, the deepest most: 2.4 times in 6,000
steps of pretraining, and a fine-tuning that starts from them is slower than one from nothing (docs/recipe.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
# Those that normalise each channel by itself; group and layer normalisation do not.
InstanceNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
Filters = tuple[Convolution, InstanceNorm | BatchNorm]

# A positive factor goes through these as it is.
_BETWEEN = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.ReLU, nn.LeakyReLU)


def normalised_filters(network: nn.Module) -> list[Filters]:
    """Return the convolutions whose channels instance or batch normalisation divides by their size."""
    chains = (module for module in network.modules() if isinstance(module, nn.Sequential))
    return [filters for chain in chains for filters in _along(chain)]


def _along(chain: nn.Sequential) -> Iterator[Filters]:
    layers = [layer for layer in chain if not isinstance(layer, _BETWEEN)]
    for layer, following in pairwise(layers):
        if isinstance(layer, Convolution) and isinstance(following, InstanceNorm | BatchNorm):
            yield layer, following


def filter_sizes(filters: Sequence[Filters]) -> list[Tensor]:
    """Return the norm of each filter, layer by layer."""
    return [conv.weight.detach().flatten(1).norm(dim=1) for conv, _ in filters]


@torch.no_grad()
def resize(filters: Sequence[Filters], sizes: Sequence[Tensor]) -> list[float]:
    """Give filters these norms in place, what the network computes unchanged; return how much larger layers were."""
    were = filter_sizes(filters)
    for (conv, norm), old, new in zip(filters, were, sizes, strict=True):
        factor = torch.where(old > 0, new / old, 1.0)
        conv.weight.mul_(factor.view(-1, *[1] * (conv.weight.ndim - 1)))
        if conv.bias is not None:
            conv.bias.mul_(factor)
        if norm.running_mean is not None and norm.running_var is not None:  # of what it is given
            norm.running_mean.mul_(factor)
            norm.running_var.mul_(factor**2)
    return [float(old.mean() / new.mean()) for old, new in zip(were, sizes, strict=True)]
