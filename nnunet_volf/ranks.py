"""Agreement between the processes of a distributed training."""

from __future__ import annotations

import torch
from torch import distributed as dist


def any_rank(flag: bool, device: torch.device) -> bool:
    """Say whether the flag is set on any rank; without distributed training, whether it is set."""
    if not (dist.is_available() and dist.is_initialized()):
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared)
