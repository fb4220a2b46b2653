"""SLeM on a small patch, with a small network and cases of any content, for its tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.slem.pretext import Recombination
from nnunet_volf.pretext.slem.settings import SLeMSettings

PATCH = (8, 16, 20)


def slem(patch: Sequence[int] = PATCH, channels: int = 2, **settings: Any) -> Recombination:
    on_it = Given(
        patch=tuple(patch),
        spacing=(1.0,) * len(patch),
        channels=tuple(f"c{number}" for number in range(channels)),
        strides=(4,) * len(patch),
        features=(4, 8, 8),
        kernels=((3,) * len(patch),) * 3,
        batch_size=2,
        median_shape=tuple(patch),
        dataset="Dataset001_Test",
    )
    return Recombination(SLeMSettings.from_mapping(settings), on_it)


def save_case(folder: Path, image: np.ndarray, name: str = "case") -> UnlabeledCases:
    np.save(folder / f"{name}.npy", image.astype(np.float32))
    return UnlabeledCases(folder, [name])


def tiny_unet(channels: int = 2, axes: int = 3) -> nn.Module:
    convolution, norm = (nn.Conv3d, nn.InstanceNorm3d) if axes == 3 else (nn.Conv2d, nn.InstanceNorm2d)
    return PlainConvUNet(
        channels, 3, [4, 8, 8], convolution, 3, [1, 2, 2], 1, 1, 1, norm_op=norm, nonlin=nn.LeakyReLU, conv_bias=True
    )
