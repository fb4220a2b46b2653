"""A loss that stops a training step before it does harm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nnunet_volf.ranks import any_rank


class NonFiniteLoss(Exception):  # noqa: N818 - a signal to the training loop, not an error of the user's
    """The loss of a training step is NaN or infinite."""


class FiniteLoss(nn.Module):
    """A loss that raises `NonFiniteLoss` before anything is back-propagated; on all ranks or on none."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, *inputs: Any) -> Tensor:
        """Return the wrapped loss; outside training it may be anything."""
        value: Tensor = self.loss(*inputs)
        if torch.is_grad_enabled() and any_rank(not bool(torch.isfinite(value)), value.device):
            raise NonFiniteLoss(f"the loss is {float(value.detach())}")
        return value
