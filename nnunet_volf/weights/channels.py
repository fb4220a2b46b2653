"""A first layer for other input channels.

Each channel that the network was trained on is given a mix of the task's channels to look at, with shares that sum to
one. Written as a matrix (task channels x trained channels), the new filters are the old ones times that matrix, and the
new layer sees an image exactly as the old layer would see the mixed image: nothing is rescaled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def channel_shares(trained: Sequence[str], wanted: Sequence[str], rule: str = "name") -> NDArray[np.float64]:
    """Return what share of each wanted channel each trained channel gets to see; columns sum to one.

    By name: channels of the same name belong together; the others pair up in order where both sides have equally many,
    and else each trained channel that is left sees the mean of the wanted ones that are left (of all, if none is). A
    wanted channel that nothing sees starts without influence and is learnt. By repeating: each trained channel sees the
    mean of all wanted ones, whatever they are called.
    """
    shares = np.zeros((len(wanted), len(trained)))
    if rule == "repeat":
        shares[:] = 1 / len(wanted)
        return shares
    same = [(i, j) for j, name in enumerate(trained) for i, other in enumerate(wanted) if _is_same(name, other)]
    pairs = _one_to_one(same)
    left_wanted = [i for i in range(len(wanted)) if i not in {i for i, _ in pairs}]
    left_trained = [j for j in range(len(trained)) if j not in {j for _, j in pairs}]
    if len(left_wanted) == len(left_trained):
        pairs += zip(left_wanted, left_trained, strict=True)
        left_trained = []
    for i, j in pairs:
        shares[i, j] = 1
    seen = left_wanted or list(range(len(wanted)))
    for j in left_trained:
        shares[seen, j] = 1 / len(seen)
    return shares


def _is_same(name: str, other: str) -> bool:
    return name.strip().lower() == other.strip().lower()


def _one_to_one(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Keep the first pair of each channel; a dataset may call two channels by one name."""
    kept: list[tuple[int, int]] = []
    for i, j in pairs:
        if all(i != a and j != b for a, b in kept):
            kept.append((i, j))
    return kept


def mix_channels(weight: Tensor, shares: NDArray[np.float64]) -> Tensor:
    """Return the filters (out, wanted, ...) that see an image as `weight` (out, trained, ...) sees its mix."""
    matrix = torch.from_numpy(shares)
    return torch.einsum("oj...,ij->oi...", weight.double(), matrix).to(weight.dtype)


def describe_shares(trained: Sequence[str], wanted: Sequence[str], shares: NDArray[np.float64]) -> str:
    """Say what each trained channel sees of the task's, and which of the task's start unseen."""
    seen = []
    for j, channel in enumerate(trained):
        of = [name for name, share in zip(wanted, shares[:, j], strict=True) if share]
        seen.append(f"{channel} sees {of[0] if len(of) == 1 else 'the mean of ' + ', '.join(of)}")
    unseen = [name for name, total in zip(wanted, shares.sum(1), strict=True) if not total]
    return "; ".join([*seen, *([f"{', '.join(unseen)} from zero"] if unseen else [])])
