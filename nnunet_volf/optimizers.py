"""The optimizers that a training may use, and the learning rate that each starts from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the names are also read where torch is not loaded
    import torch

# nnU-Net's own for SGD; for AdamW that of the Volume Fusion papers' Adam.
PEAK_RATES = {"sgd": 1e-2, "adamw": 1e-3}
OPTIMIZERS = tuple(PEAK_RATES)


def make_optimizer(name: str, parameters: Iterable[Any], rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return nnU-Net's SGD or AdamW for parameters or groups of them."""
    import torch

    if name == "sgd":
        return torch.optim.SGD(parameters, rate, weight_decay=weight_decay, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(parameters, rate, weight_decay=weight_decay)
