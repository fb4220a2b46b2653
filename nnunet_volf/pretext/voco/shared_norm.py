"""Batch normalisation over the crops of all processes of a training: what a step learns does not depend on them.

torch's own does so on GPUs and in training only: in validation each process would normalise by its own few crops, and
the scores would change with the number of processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.functional import batch_norm

from nnunet_volf.ranks import in_company

_EPSILON = 1e-5  # torch's


class SharedNorm(nn.Module):
    """Normalise each feature of (n, features) by its mean and spread over the rows that all ranks have now.

    Nothing is learnt and no statistics are kept, in validation either.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Return the rows, normalised."""
        if not in_company():
            return batch_norm(rows, None, None, training=True, eps=_EPSILON)
        # In float32, as torch does it: the difference of two large sums is taken.
        values = rows.float()
        count = _SumOverRanks.apply(values.new_tensor([len(values)]))
        mean = _SumOverRanks.apply(values.sum(0)) / count
        spread = _SumOverRanks.apply((values - mean).square().sum(0)) / count
        normalised: Tensor = (values - mean) * torch.rsqrt(spread + _EPSILON)
        return normalised.to(rows.dtype)


class _SumOverRanks(torch.autograd.Function):
    """The sum over ranks; what changes one rank's share changes the loss of every rank."""

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        total = share.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
