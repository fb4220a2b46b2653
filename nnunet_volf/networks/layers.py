"""Convolutions that normalise and activate their input first, the unit that both networks are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layers:
    """Which layers a network is made of: a convolution class, and how to make the others for a number of features."""

    conv: Callable[..., nn.Module]
    norm: Callable[[int], nn.Module]
    nonlin: Callable[[], nn.Module]

    def activation(self, features: int) -> nn.Sequential:
        """Return normalisation and activation."""
        return nn.Sequential(OrderedDict(norm=self.norm(features), nonlin=self.nonlin()))

    def plain(self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | int = 1) -> nn.Module:
        """Return a convolution that keeps the size, but for its stride."""
        return self.conv(inputs, outputs, tuple(kernel), stride=_tuple(stride), padding=tuple(k // 2 for k in kernel))

    def unit(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        stride: Sequence[int] | int = 1,
        dropout: nn.Module | None = None,
    ) -> nn.Sequential:
        """Return normalisation, activation, dropout where there is any, and a convolution."""
        return self.before(self.plain(inputs, outputs, kernel, stride), inputs, dropout)

    def before(self, conv: nn.Module, inputs: int, dropout: nn.Module | None = None) -> nn.Sequential:
        """Return a convolution with normalisation, activation and dropout before it."""
        unit = self.activation(inputs)
        if dropout is not None:
            unit.add_module("dropout", dropout)
        unit.add_module("conv", conv)
        return unit


def _tuple(stride: Sequence[int] | int) -> tuple[int, ...] | int:
    return stride if isinstance(stride, int) else tuple(stride)
