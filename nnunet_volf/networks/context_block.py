"""A block that looks at features over several distances at once, so that small and large things are seen in context.

SLeM has a "contextual fusion block" behind its encoder, for features of tumours of different sizes; its abstract, which
is all that was at hand, does not say what is in it. The parts are those of related blocks: parallel convolutions of
several dilations (ASPP in DeepLab v3, the dense atrous block of CE-Net) and the mean over everything (PSPNet).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_SHARE = 4  # a branch has a quarter of the features


class ContextBlock(nn.Module):
    """Add to features what five branches make of them; it starts as the identity."""

    def __init__(
        self,
        conv_op: type[nn.Conv2d] | type[nn.Conv3d],
        features: int,
        kernel: Sequence[int],
        dilations: Sequence[Sequence[int]],
    ) -> None:
        """Take the kernel of the stage and the dilations of each branch, an axis."""
        super().__init__()
        norm_op = nn.InstanceNorm3d if issubclass(conv_op, nn.Conv3d) else nn.InstanceNorm2d
        conv: Any = conv_op
        narrow, single = max(1, features // _SHARE), (1,) * len(kernel)

        def branch(kernel: Sequence[int], dilation: Sequence[int]) -> nn.Sequential:
            padding = tuple(step * (side // 2) for side, step in zip(kernel, dilation, strict=True))
            # The normalisation takes the mean away again, so a bias would be for nothing.
            seen = conv(features, narrow, tuple(kernel), padding=padding, dilation=tuple(dilation), bias=False)
            return nn.Sequential(seen, norm_op(narrow, affine=True), nn.LeakyReLU(inplace=True))

        self.point = branch(single, single)
        self.dilated = nn.ModuleList(branch(kernel, dilation) for dilation in dilations)
        # No normalisation here: there is one value for each feature.
        self.mean = nn.Sequential(conv(features, narrow, single), nn.LeakyReLU(inplace=True))
        self.merge = conv((2 + len(dilations)) * narrow, features, single)
        self.start_as_identity()

    def start_as_identity(self) -> None:
        """Let the block add nothing until it is trained, so that weights of a network without it keep their worth."""
        nn.init.zeros_(self.merge.weight)
        nn.init.zeros_(self.merge.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        near = [self.point(x), *(branch(x) for branch in self.dilated)]
        mean = self.mean(x.mean(dim=tuple(range(2, x.ndim)), keepdim=True))
        seen: Tensor = self.merge(torch.cat([*near, mean.expand_as(near[0])], dim=1))
        return x + seen
