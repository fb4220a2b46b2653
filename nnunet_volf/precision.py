"""Where numbers are kept in halves: on CUDA, as in nnU-Net, and nowhere else; torch 2.1 has no autocast for MPS."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def mixed_precision(device_type: str) -> AbstractContextManager[Any]:
    """Compute in halves where nnU-Net does."""
    return torch.autocast(device_type) if device_type == "cuda" else nullcontext()


def full_precision(device_type: str) -> AbstractContextManager[Any]:
    """Compute in what numbers have, within what nnU-Net computes in halves."""
    return torch.autocast(device_type, enabled=False) if device_type == "cuda" else nullcontext()
