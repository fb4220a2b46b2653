"""The learning rates of an optimizer, set before each step from a schedule; what nnU-Net calls a scheduler."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.optimizers import make_optimizer
from nnunet_volf.parameter_groups import Group
from nnunet_volf.schedules import rate_factors


class ScheduledRates:
    """An optimizer for groups of parameters, and the rate that each has at any step.

    A part that waits has a rate of 0 and not ``requires_grad=False``: distributed training and torch.compile see the
    same network throughout, and the optimizer knows the part's gradients when it joins. Both optimizers leave
    weights exactly as they are at a rate of 0: AdamW multiplies its weight decay by the rate, and SGD adds it to the
    gradient. The gradients of a waiting part count in nnU-Net's clipping.
    """

    def __init__(self, groups: Sequence[Group], settings: FineTuneSettings) -> None:
        self.groups = groups
        self.settings = settings
        listed = [{"params": list(group.parameters)} for group in groups]
        rate = settings.peak_learning_rate
        self.optimizer: torch.optim.Optimizer = make_optimizer(settings.optimizer, listed, rate, settings.weight_decay)

    def step(self, epoch: int) -> None:
        """Set the rates of an epoch's first step; nnU-Net calls this when an epoch starts."""
        self.set(epoch, 0)

    def set(self, epoch: int, step: int) -> None:
        """Set the rates of a step; they follow from its number alone, so a resumed training needs no state of ours."""
        factors = rate_factors(self.settings, epoch, step)
        peak = self.settings.peak_learning_rate
        for target, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            target["lr"] = peak * (factors.first if group.first else factors.others) * group.scale
