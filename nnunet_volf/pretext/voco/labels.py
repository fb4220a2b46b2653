"""What the network is asked for, as one tensor: how much of each target lies in each base, and which bases count.

For a region with n bases and t targets it is (t + 1, n):

- Rows 0 … t - 1: the shares of a target's voxels in each base, made to sum to 1 over the bases that count. A row of
  zeros stands for a target that counts for nothing.
- The last row: 1 for a base that counts, 0 for one that does not.

A base that shows nothing (air) does not count: two of them look the same and cannot be told apart, nor a target in
them. A target does not count if it shows nothing, or has less than `LEAST_SEEN` of its voxels in bases that count.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SEEN = 0.1


def position_labels(overlap: Tensor, base_shows: Tensor, target_shows: Tensor) -> Tensor:
    """Return the labels (t + 1, n) for overlaps (t, n) and what shows anything: bases (n) and targets (t)."""
    counted = overlap * base_shows
    seen = counted.sum(1, keepdim=True)
    kept = (seen >= LEAST_SEEN) & target_shows[:, None]
    shares = torch.where(kept, counted / seen.clamp_min(LEAST_SEEN), 0)
    return torch.cat([shares, base_shows[None].to(shares.dtype)])


def split_labels(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return, of labels (b, t + 1, n), the shares (b, t, n), and which targets (b, t) and bases (b, n) count."""
    shares = labels[:, :-1]
    return shares, shares.sum(-1) > 0, labels[:, -1] > 0


def pairs(targets: Tensor, bases: Tensor) -> Tensor:
    """Return which pairs of a target and a base count (b, t, n), for those of each that do."""
    return targets[:, :, None] & bases[:, None, :]
