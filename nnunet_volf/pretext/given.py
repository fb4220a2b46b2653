"""What a plan and a dataset give to a pretext task, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """Everything that a pretext may know before it sees an image; axes as the network has them."""

    patch: tuple[int, ...]
    spacing: tuple[float, ...]  # mm
    channels: tuple[str, ...]  # their names
    strides: tuple[int, ...]  # of the whole encoder, an axis
    features: tuple[int, ...]  # a stage
    kernels: tuple[tuple[int, ...], ...]  # a stage
    batch_size: int
    median_shape: tuple[int, ...]  # of the images, in voxels
    dataset: str  # its name, for messages

    @property
    def bottleneck(self) -> tuple[int, ...]:
        """The size of the deepest features of a patch."""
        return tuple(side // stride for side, stride in zip(self.patch, self.strides, strict=True))


def given_by(configuration: Mapping[str, Any], channel_names: Sequence[str], dataset: str) -> Given:
    """Read it from a configuration of the plans, with what that inherits, and the names of the channels."""
    arguments = configuration["architecture"]["arch_kwargs"]
    patch = tuple(int(side) for side in configuration["patch_size"])
    strides = [_per_axis(stride, len(patch)) for stride in arguments["strides"]]
    return Given(
        patch=patch,
        spacing=tuple(float(side) for side in configuration["spacing"])[-len(patch) :],
        channels=tuple(channel_names),
        strides=tuple(math.prod(stages) for stages in zip(*strides, strict=True)),
        features=tuple(int(number) for number in arguments["features_per_stage"]),
        kernels=tuple(_per_axis(kernel, len(patch)) for kernel in arguments["kernel_sizes"]),
        batch_size=int(configuration["batch_size"]),
        median_shape=tuple(round(side) for side in configuration["median_image_size_in_voxels"])[-len(patch) :],
        dataset=dataset,
    )


def _per_axis(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(int(side) for side in value)
