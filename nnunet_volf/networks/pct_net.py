"""PCT-Net, the network of the Volume Fusion paper of 2023: convolutions and window attention side by side.

The two finest stages are convolutions only; below them attention is affordable, and each stage adds up what two
convolutions and two transformer blocks make of the same features.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from nnunet_volf.errors import SettingsError
from nnunet_volf.networks.catalogue import first_with_attention
from nnunet_volf.networks.layers import Layers
from nnunet_volf.networks.u_shape import Topology, UShape
from nnunet_volf.networks.window_attention import TransformerBlock, WindowAttention

_HEAD_FEATURES = 32  # of one head of attention: 4, 8 and 16 heads at the published widths


def heads_for(features: int) -> int:
    """Return how many heads of attention so many features have."""
    return max(1, features // _HEAD_FEATURES)


class ConvBlock(nn.Module):
    """Two pre-activated convolutions."""

    def __init__(self, layers: Layers, features: int, kernel: Sequence[int], dropout: float = 0.0) -> None:
        """Keep the number of features; dropout comes before the second convolution."""
        super().__init__()
        first = layers.unit(features, features, kernel)
        second = layers.unit(features, features, kernel, dropout=nn.Dropout(dropout) if dropout else None)
        self.convs = nn.Sequential(first, second)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        seen: Tensor = self.convs(x)
        return seen


class ParallelBlock(ConvBlock):
    """Two convolutions and, beside them, two transformer blocks, the second with shifted windows."""

    def __init__(
        self,
        layers: Layers,
        features: int,
        kernel: Sequence[int],
        window: int,
        dropout: float,
        drop_path: float,
        reference: bool,
    ) -> None:
        """Take what both paths need."""
        super().__init__(layers, features, kernel, dropout)
        heads = heads_for(features)
        if features % heads:
            raise SettingsError(
                f"PCT-Net splits the features of a stage with attention among heads of about {_HEAD_FEATURES}; "
                f"{features} do not split into {heads} equal heads. Choose a multiple of {_HEAD_FEATURES} in "
                "features_per_stage."
            )
        self.token_dropout = nn.Dropout(dropout)
        self.attention = nn.Sequential(
            *(
                TransformerBlock(
                    WindowAttention(features, heads, window, shifted, dropout, reference),
                    features, dropout, drop_path,
                )
                for shifted in (False, True)
            )
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both paths."""
        tokens = self.token_dropout(x.permute(0, 2, 3, 4, 1))
        convolved, attended = self.convs(x), self.attention(tokens).permute(0, 4, 1, 2, 3)
        both: Tensor = convolved + attended
        return both


class PCTNet(UShape):
    """PCT-Net for the topology of an nnU-Net plan, in 3D."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[nn.Conv3d],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        norm_op: type[nn.Module] = nn.InstanceNorm3d,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        dropout: float = 0.2,
        drop_path: float = 0.2,
        window_size: int = 6,
        reference: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        """Build the network; `reference` pads and shifts windows as the published weights were trained to."""
        if not issubclass(conv_op, nn.Conv3d):
            raise SettingsError(
                f"PCT-Net has 3D windows, and the plan asks for {conv_op.__name__}. Choose a 3D configuration, or "
                "FMUNet, which has a 2D form."
            )
        features, kernels = features_per_stage, kernel_sizes
        topology = Topology(input_channels, num_classes, features, kernels, strides)
        topology.check("PCT-Net", n_stages)
        layers = Layers(conv_op, lambda n: norm_op(n, **(norm_op_kwargs or {})), nn.PReLU)

        def block(level: int) -> ConvBlock:
            if level < first_with_attention(n_stages):
                return ConvBlock(layers, features[level], kernels[level])
            return ParallelBlock(layers, features[level], kernels[level], window_size, dropout, drop_path, reference)

        def down(level: int) -> nn.Module:
            unit = layers.unit(features[level - 1], features[level], kernels[level])
            return nn.Sequential(OrderedDict(pool=nn.MaxPool3d(tuple(strides[level])), **dict(unit.named_children())))

        def up(level: int) -> nn.Module:
            below = features[level + 1]
            stride: Any = tuple(strides[level + 1])
            return layers.before(nn.ConvTranspose3d(below, features[level], stride, stride), below)

        super().__init__(topology, layers, block, down, up, [(1, 1, 1)] * n_stages, deep_supervision)
