"""The two-crop augmentation of Volume Fusion: resize, flip, contrast map, gamma, inversion.

`draw_window` and `draw_looks` hold all the randomness and return plain values; `augment` applies them and nothing
else, on whatever device the crop is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnunet_volf.pretext.settings import PretrainingSettings, Range
from nnunet_volf.resizing import resize
from nnunet_volf.tone import apply_tone, measure_tones

# Drawing a second window apart from the first is tried this often before the farthest one is taken.
WINDOW_TRIES = 10


@dataclass(frozen=True)
class Window:
    """A box inside a volume."""

    start: tuple[int, ...]
    size: tuple[int, ...]


@dataclass(frozen=True)
class Look:
    """How a crop is shown: which axes are flipped, and the intensity map of each channel."""

    flips: tuple[int, ...]  # spatial axes
    low: tuple[float, ...] = ()  # percentile mapped to 0.1, one a channel; empty: intensities stay as they are
    high: tuple[float, ...] = ()  # percentile mapped to 0.9
    gamma: tuple[float, ...] = ()
    invert: bool = False


def draw_window(
    rng: np.random.Generator,
    volume: Sequence[int],
    patch: Sequence[int],
    scale: Range,
    around: Sequence[int] | None = None,
) -> Window:
    """Draw a crop of patch size times a factor per axis, cut to the volume, anywhere in it or anywhere around a voxel.

    An axis on which the patch is one voxel thick (2D data, kept as stacks of slices) stays one voxel thick.
    """
    factors = rng.uniform(*scale, size=len(patch)).tolist()
    wanted = (1 if p == 1 else max(1, int(p * f)) for p, f in zip(patch, factors, strict=True))
    size = tuple(min(w, v) for w, v in zip(wanted, volume, strict=True))
    ends = [(0, v - n) for v, n in zip(volume, size, strict=True)]
    return Window(draw_start(rng, ends, size, around), size)


def draw_start(
    rng: np.random.Generator, ends: Sequence[tuple[int, int]], size: Sequence[int], around: Sequence[int] | None
) -> tuple[int, ...]:
    """Draw where a crop starts, between the two ends of each axis; with `around`, it will hold that voxel.

    Voxels of tissue drawn evenly, and crops drawn evenly around them, give each crop a chance in proportion to the
    tissue in it. So there are no crops of air, and none is left out for having little tissue.
    """
    if around is not None:
        holding = [(max(a, v - n + 1), min(b, v)) for (a, b), n, v in zip(ends, size, around, strict=True)]
        ends = [pair if pair[0] <= pair[1] else end for pair, end in zip(holding, ends, strict=True)]
    return tuple(int(rng.integers(low, high, endpoint=True)) for low, high in ends)


def draw_apart(draw: Callable[[], Window], first: Window, patch: Sequence[int], minimum_distance: float) -> Window:
    """Draw a second window of the same volume whose centre is not too near to the first one's."""
    farthest = draw()
    for _ in range(WINDOW_TRIES - 1):
        if _distance(first, farthest, patch) >= minimum_distance:
            break
        farthest = max(farthest, draw(), key=lambda window: _distance(first, window, patch))
    return farthest


def _distance(a: Window, b: Window, patch: Sequence[int]) -> float:
    """Distance of two windows' centres in patch sides, along the axis where it is largest."""
    ends = zip(a.start, a.size, b.start, b.size, patch, strict=True)
    return max(abs((a0 + an / 2) - (b0 + bn / 2)) / p for a0, an, b0, bn, p in ends)


def draw_looks(rng: np.random.Generator, channels: int, axes: int, settings: PretrainingSettings) -> tuple[Look, Look]:
    """Draw the looks of the two crops of a pair; the coin for inversion is tossed once for both."""
    inverted = settings.intensity and bool(rng.random() < settings.invert)
    return _draw_look(rng, channels, axes, inverted, settings), _draw_look(rng, channels, axes, inverted, settings)


def draw_look(rng: np.random.Generator, channels: int, axes: int, settings: PretrainingSettings) -> Look:
    """Draw the look of a crop that stands alone."""
    inverted = settings.intensity and bool(rng.random() < settings.invert)
    return _draw_look(rng, channels, axes, inverted, settings)


def _draw_look(
    rng: np.random.Generator, channels: int, axes: int, inverted: bool, settings: PretrainingSettings
) -> Look:
    flips = tuple(np.flatnonzero(rng.random(axes) < settings.flip).tolist())
    if not settings.intensity:
        return Look(flips)
    low, high, gamma = (
        tuple(rng.uniform(*interval, size=channels).tolist())
        for interval in (settings.percentile_low, settings.percentile_high, settings.gamma)
    )
    return Look(flips, low, high, gamma, inverted)


def augment(crop: Tensor, patch: Sequence[int], look: Look) -> Tensor:
    """Return a crop (c, *any) resized to the patch and shown as drawn (c, *patch); the input is left as it is."""
    image = resize(crop.to(torch.float32), patch, look.flips)
    if not look.gamma:
        return image
    image = image.clone(memory_format=torch.contiguous_format) if image is crop else image.contiguous()
    tones = measure_tones(image, look.low, look.high, look.gamma, look.invert)
    for channel, tone in zip(image, tones, strict=True):
        if tone is not None:
            apply_tone(channel, tone)
    return image
