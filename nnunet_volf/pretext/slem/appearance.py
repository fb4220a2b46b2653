"""Hide what would give a channel away without looking at the anatomy: its brightness, its contrast, its empty parts.

After z-scoring, the air around a body has a value of its own in each channel, and so has the mean of a crop. A network
could tell the channels apart by these alone and would learn nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnunet_volf.pretext.slem.settings import SLeMSettings

# A voxel is empty if every channel is as near to its smallest value, or to 0, as this share of its spread. 0 is what
# nnU-Net leaves outside of the mask that it normalises in.
EMPTY_SHARE = 1e-3
SPREAD_VOXELS = 1 << 16  # from which that spread is found


@dataclass(frozen=True)
class Shade:
    """For each channel, a factor on its contrast, and a shift of its brightness in units of the spread."""

    contrast: tuple[float, ...]
    brightness: tuple[float, ...]


def draw_shade(rng: np.random.Generator, channels: int, settings: SLeMSettings) -> Shade:
    """Draw a shade, each channel for itself; without `intensity`, the one that makes all channels equally bright."""
    if not settings.intensity:
        return Shade((1.0,) * channels, (0.0,) * channels)
    contrast, brightness = (
        tuple(rng.uniform(*interval, size=channels).tolist()) for interval in (settings.contrast, settings.brightness)
    )
    return Shade(contrast, brightness)


def empty_voxels(image: Tensor) -> Tensor:
    """Return where an image (c, *size) shows nothing in any channel, as (*size)."""
    flat = image.flatten(1)
    step = flat.shape[1] // SPREAD_VOXELS | 1  # odd, or it would hit the same few columns of a patch
    tolerance = EMPTY_SHARE * flat[:, ::step].std(1, correction=0)
    smallest, tolerance = (value.view(-1, *[1] * (image.ndim - 1)) for value in (flat.amin(1), tolerance))
    return (image - smallest <= tolerance).all(0) | (image.abs() <= tolerance).all(0)


def equalise(image: Tensor, empty: Tensor, shade: Shade) -> Tensor:
    """Return an image whose channels differ in mean and spread by the shade only; empty voxels count for neither.

    Mean and spread are those that the channels have on average, so that the range stays the one that fine-tuning sees.
    A channel without contrast keeps its spread.
    """
    axes = tuple(range(1, image.ndim))
    voxels = (~empty).sum().clamp(min=1)
    mean = blank(image, empty).sum(axes, keepdim=True) / voxels
    centred = blank(image - mean, empty)
    spread = torch.linalg.vector_norm(centred, dim=axes, keepdim=True) / voxels.sqrt()
    contrast, brightness = (image.new_tensor(values).view_as(mean) for values in (shade.contrast, shade.brightness))
    common = spread.mean()
    gain = torch.where(spread > 0, contrast * common / spread.clamp(min=torch.finfo(spread.dtype).tiny), 1.0)
    return centred.mul_(gain).add_(mean.mean() + brightness * common)


def blank(image: Tensor, empty: Tensor) -> Tensor:
    """Return an image that is 0 in all channels where it is empty."""
    return image.masked_fill(empty, 0.0)
