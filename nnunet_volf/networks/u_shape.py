"""What both networks share: the shape of a U, with the names and manners that nnU-Net expects of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_volf.errors import SettingsError
from nnunet_volf.networks.layers import Layers
from nnunet_volf.networks.memory import kept_values


class EncoderStage(nn.Module):
    """One resolution on the way down: reach it, then look at it."""

    def __init__(self, down: nn.Module | None, block: nn.Module) -> None:
        """Take what leads here from the stage before (nothing for the first) and what is done here."""
        super().__init__()
        self.down = nn.Identity() if down is None else down
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of this resolution."""
        features: Tensor = self.block(self.down(x))
        return features


class Encoder(nn.Module):
    """A first convolution and the stages of the way down."""

    def __init__(self, stem: nn.Module, stages: Iterable[EncoderStage], strides: Sequence[Sequence[int]]) -> None:
        """Take the stages, the finest first, and the stride into each."""
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.total_stride = tuple(prod(steps) for steps in zip(*strides, strict=True))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every resolution, the finest first."""
        if any(x.shape[2 + axis] % step for axis, step in enumerate(self.total_stride)):
            raise SettingsError(
                f"A patch of {_times(x.shape[2:])} does not divide by the strides of this network, together "
                f"{_times(self.total_stride)}. Choose patch_size in the plans so that it does."
            )
        x, features = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DecoderStage(nn.Module):
    """One resolution on the way up: reach it, join what the encoder saw there, look at both."""

    def __init__(self, up: nn.Module, merge: nn.Module, block: nn.Module, out: nn.Module) -> None:
        """Take the parts; `out` stands between the features of this stage and the layer that segments."""
        super().__init__()
        self.up, self.merge, self.block, self.out = up, merge, block, out

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return the features of this resolution."""
        features: Tensor = self.block(self.merge(torch.cat([skip, self.up(x)], dim=1)))
        return features


class Decoder(nn.Module):
    """The stages of the way up, the deepest first, and a layer behind each that segments."""

    def __init__(
        self,
        stages: Iterable[DecoderStage],
        seg_layers: Iterable[nn.Module],
        deep_supervision: bool,
        bottleneck: nn.Module | None = None,
    ) -> None:
        """Take the stages and their last layers; `bottleneck` sees the deepest features before the first stage."""
        super().__init__()
        self.bottleneck = nn.Identity() if bottleneck is None else bottleneck
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleList(seg_layers)
        self.deep_supervision = deep_supervision  # nnU-Net's trainers and predictor switch it

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        """Return the segmentation, or with deep supervision one at every resolution, the finest first."""
        x, finest = self.bottleneck(features[-1]), len(self.stages) - 1
        outputs: list[Tensor] = []
        stage: Any
        for number, stage in enumerate(self.stages):
            x = stage(x, features[-2 - number])
            if self.deep_supervision or number == finest:
                outputs.append(self.seg_layers[number](stage.out(x)))
        return outputs[::-1] if self.deep_supervision else outputs[0]


@dataclass(frozen=True)
class Topology:
    """What nnU-Net plans: how often a network halves its patch, along which axes, with which kernels, how wide."""

    inputs: int
    outputs: int
    features: Sequence[int]
    kernels: Sequence[Sequence[int]]
    strides: Sequence[Sequence[int]]  # into each stage

    def check(self, name: str, n_stages: int) -> None:
        """Refuse a plan that does not describe a U."""
        if n_stages < 2:
            raise SettingsError(f"{name} needs two stages or more, and the plan has n_stages = {n_stages}.")
        given = {"features_per_stage": self.features, "kernel_sizes": self.kernels, "strides": self.strides}
        for what, values in given.items():
            if len(values) != n_stages:
                raise SettingsError(f"{name}: the plan has n_stages = {n_stages} and {len(values)} {what}: {values}.")
        if any(step != 1 for step in self.strides[0]):
            raise SettingsError(
                f"{name} works at the full resolution first, and the plan's first stride is {self.strides[0]}."
            )


class UShape(nn.Module):
    """A network of an encoder and a decoder, of blocks at each level and ways between the levels."""

    # Where nnU-Net's import of pretrained weights looks for the encoder and the layer that sees the image.
    key_to_encoder = "encoder.stages"
    key_to_stem = "encoder.stem"
    keys_to_in_proj = ("encoder.stem",)

    def __init__(
        self,
        topology: Topology,
        layers: Layers,
        block: Callable[[int], nn.Module],
        down: Callable[[int], nn.Module],
        up: Callable[[int], nn.Module],
        head_kernels: Sequence[Sequence[int]],
        deep_supervision: bool,
        bottleneck: bool = False,
    ) -> None:
        """Build the network from what makes the block of a level, and the ways to a level from above and from below.

        With `bottleneck` the decoder begins with a block of its own at the deepest level.
        """
        super().__init__()
        self.input_channels = topology.inputs
        features, kernels = topology.features, topology.kernels
        levels = range(len(features))
        upwards = levels[-2::-1]

        def decoder_stage(level: int) -> DecoderStage:
            n = features[level]
            return DecoderStage(up(level), layers.unit(2 * n, n, kernels[level]), block(level), layers.activation(n))

        stem = layers.plain(topology.inputs, features[0], kernels[0])
        stages = [EncoderStage(down(level) if level else None, block(level)) for level in levels]
        self.encoder = Encoder(stem, stages, topology.strides)
        self.decoder = Decoder(
            [decoder_stage(level) for level in upwards],
            [layers.plain(features[level], topology.outputs, head_kernels[level]) for level in upwards],
            deep_supervision,
            block(levels[-1]) if bottleneck else None,
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment a batch of patches."""
        output: Tensor | list[Tensor] = self.decoder(self.encoder(x))
        return output

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Return the measure of memory that nnU-Net plans with, for one patch.

        nnU-Net counts what the convolutions of its own networks put out, and they keep two values for the backward
        pass for each of those: the input of the normalisation and the input of the next convolution. Ours keep more
        (other activations, tokens), so half of what is kept is the number that stands for the same memory.
        """
        return kept_values(self, (1, self.input_channels, *input_size)) // 2


def _times(sides: Iterable[int]) -> str:
    return " x ".join(str(int(side)) for side in sides)
