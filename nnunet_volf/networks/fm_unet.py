"""FMUNet, the network of the Volume Fusion paper of 2025: a U-Net of pre-activated residual convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnunet_volf.networks.layers import Layers
from nnunet_volf.networks.u_shape import Topology, UShape

# Stages 0 and 1 have too few features to leave some out.
_FIRST_WITH_DROPOUT = 2


class ResidualUnits(nn.Module):
    """Pre-activated convolutions, each around a path that nothing touches."""

    def __init__(self, units: Sequence[nn.Module]) -> None:
        """Take units that keep size and features."""
        super().__init__()
        self.convs = nn.ModuleList(units)

    def forward(self, x: Tensor) -> Tensor:
        """Add what each unit sees."""
        for unit in self.convs:
            x = x + unit(x)
        return x


class FMUNet(UShape):
    """FMUNet for the topology of an nnU-Net plan, in 2D or 3D."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[nn.Conv2d] | type[nn.Conv3d],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        n_conv_per_stage: int = 2,
        dropout: float = 0.2,
        reference: bool = False,
        deep_supervision: bool = False,
    ) -> None:
        """Build the network; `reference` upsamples and drops values as the published weights were trained to."""
        features, kernels = features_per_stage, kernel_sizes
        topology = Topology(input_channels, num_classes, features, kernels, strides)
        topology.check("FMUNet", n_stages)
        flat = not issubclass(conv_op, nn.Conv3d)
        norm_op = nn.InstanceNorm2d if flat else nn.InstanceNorm3d
        layers = Layers(conv_op, lambda n: norm_op(n, affine=True), lambda: nn.LeakyReLU(inplace=True))
        # Neighbouring voxels say nearly the same, so leaving out single ones leaves out nothing: whole features are.
        dropout_op = nn.Dropout if reference else (nn.Dropout2d if flat else nn.Dropout3d)

        def block(level: int) -> ResidualUnits:
            n, kernel = features[level], kernels[level]
            rate = dropout if level >= _FIRST_WITH_DROPOUT else 0.0
            drops = [dropout_op(rate) if rate else None for _ in range(n_conv_per_stage)]
            return ResidualUnits([layers.unit(n, n, kernel, dropout=drop) for drop in drops])

        def down(level: int) -> nn.Module:
            return layers.unit(features[level - 1], features[level], kernels[level - 1], strides[level])

        def up(level: int) -> nn.Module:
            unit = layers.unit(features[level + 1], features[level], [1] * len(kernels[level]))
            unit.add_module("upsample", _upsample(strides[level + 1], align_corners=reference))
            return unit

        super().__init__(topology, layers, block, down, up, kernels, deep_supervision, bottleneck=True)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialise a layer as the paper's network and nnU-Net's do (He et al. 2015)."""
        InitWeights_He(1e-2)(module)


def _upsample(stride: Sequence[int], align_corners: bool) -> nn.Module:
    """Interpolate linearly.

    Aligned corners stretch a patch to its border voxels, by a factor that depends on the size of the patch; the
    published weights know it so. Without, a voxel's place is the same in patches of every size.
    """
    mode: Any = "trilinear" if len(stride) == 3 else "bilinear"
    return nn.Upsample(scale_factor=tuple(float(step) for step in stride), mode=mode, align_corners=align_corners)
