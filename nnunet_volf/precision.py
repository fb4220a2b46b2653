"""Where numbers are kept in halves: on CUDA, as in nnU-Net, and on CPUs that compute with them faster than with wholes.

On MPS nothing is: torch 2.1 has no autocast for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn


def mixed_precision(device_type: str) -> AbstractContextManager[Any]:
    """Compute in halves where nnU-Net does."""
    return torch.autocast(device_type) if device_type == "cuda" else nullcontext()


def full_precision(device_type: str) -> AbstractContextManager[Any]:
    """Compute in what numbers have, within what nnU-Net computes in halves."""
    return torch.autocast(device_type, enabled=False) if device_type == "cuda" else nullcontext()


def compute_in_halves_on_cpu(network: nn.Module) -> None:
    """Have a network compute in bfloat16 what autocast finds safe, and return float32; its weights stay float32."""
    forward: Callable[..., Any] = network.forward

    @wraps(forward)
    def in_halves(*inputs: Any, **named: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = forward(*inputs, **named)
        return _in_float32(outputs)

    network.forward = in_halves


def _in_float32(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float()
    return type(outputs)(_in_float32(output) for output in outputs)
