"""The intensities of a channel, mapped: contrast, gamma and inversion; mean and spread come out as they were.

All of it is one function of an intensity, rising or falling. `measure_tones` finds its constants from a sample of the
voxels, so that a device is waited for once a crop; `apply_tone` goes over the voxels, on a CPU in pieces that stay in
its cache. The floor is one read and one write of the image, and one read for its smallest and largest value.

The contrast map follows the publication's reference code (PyMIC `Crop4VolumeFusion`) with two differences: it is safe
on constant, integer and mostly empty crops, and the result is moved back to the mean and spread that the crop came
with, because fine-tuning will see nnU-Net's normalised range and not [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Constants are taken from about this many evenly spaced voxels. The error of a percentile is then far below the width
# of the interval that it is drawn from, and mean and spread come back to about 0.4 % of the spread. Sorting all voxels
# of a 128^3 crop would cost more than all the rest.
SAMPLED_VOXELS = 1 << 16

# Voxels that a CPU maps at once: 256 kB, so that a piece and what is made of it on the way fit the cache of a core.
# Measured: a third of the time of the whole image at once.
PIECE_VOXELS = 1 << 16

# Intensities nearer to each other than this count as one: a slope between them is no number of single precision.
SMALLEST_STEP = 1e-37

# A contrast of so many parts of the intensities themselves is none: resizing a constant crop rounds as much.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Tone:
    """A map of intensities: ``scale * level ** gamma + offset``, with the level rising piecewise from 0 to 1."""

    start: float  # the intensity of level 0
    segments: tuple[tuple[float, float], ...]  # width and slope, one after the other
    gamma: float
    scale: float = 1.0  # negative: brighter becomes darker
    offset: float = 0.0


def measure_tones(
    image: Tensor, low: Sequence[float], high: Sequence[float], gamma: Sequence[float], invert: bool
) -> list[Tone | None]:
    """Return the map of each channel of an image (c, *size), or None for a channel without contrast.

    Args:
        image: float32, on any device.
        low: the percentile mapped to level 0.1, one a channel.
        high: the percentile mapped to level 0.9.
        gamma: the exponent of the level.
        invert: whether brighter becomes darker.
    """
    step = image[0].numel() // SAMPLED_VOXELS | 1  # odd, or in a patch of 128 it would hit the same four columns
    ends = [torch.stack(channel.aminmax()) for channel in image]
    measured = torch.cat([image.flatten(1)[:, ::step], torch.stack(ends)], dim=1).cpu().numpy()  # waits for a device
    return [
        _measure(values[:-2], (float(values[-2]), float(values[-1])), p_low, p_high, exponent, invert)
        for values, p_low, p_high, exponent in zip(measured, low, high, gamma, strict=True)
    ]


def apply_tone(image: Tensor, tone: Tone) -> None:
    """Map the intensities of an image where they are."""
    flat = image.view(-1)
    (first, steepness), *others = tone.segments
    for piece in torch.split(flat, PIECE_VOXELS if image.device.type == "cpu" else len(flat)):
        rest, width = piece - tone.start, first
        torch.clamp(rest, 0, first, out=piece).mul_(steepness)
        for following, slope in others:
            piece.add_(rest.sub_(width).clamp(0, following), alpha=slope)
            width = following
        # A power takes ten times as long as a logarithm and an exponential do.
        piece.log_().mul_(tone.gamma).exp_().mul_(tone.scale).add_(tone.offset)


def contrast_segments(
    ordered: NDArray[np.float32], ends: tuple[float, float], low: float, high: float
) -> tuple[tuple[float, float], ...]:
    """Return width and slope of the lines that map [min, p_low, p_high, max] to [0, 0.1, 0.9, 1].

    Where a percentile coincides with an end of the range (an image that is half air, say), that knot is left out and
    the line goes on from the end itself, so that nothing is divided by zero and the empty part maps to 0.
    """
    knots = [(ends[0], 0.0)]
    for value, level in ((percentile(ordered, low), 0.1), (percentile(ordered, high), 0.9), (ends[1], 1.0)):
        if value > knots[-1][0] + SMALLEST_STEP and (value < ends[1] - SMALLEST_STEP or level == 1.0):
            knots.append((value, level))
    return tuple((x1 - x0, (y1 - y0) / (x1 - x0)) for (x0, y0), (x1, y1) in pairwise(knots))


def percentile(ordered: NDArray[np.float32], percent: float) -> float:
    """Return a percentile of values in their order, linear between two of them."""
    rank = percent / 100 * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below]) + (rank - below) * (float(ordered[above]) - float(ordered[below]))


def _measure(
    values: NDArray[np.float32], ends: tuple[float, float], low: float, high: float, gamma: float, invert: bool
) -> Tone | None:
    segments = contrast_segments(np.sort(values), ends, low, high)
    if not segments or ends[1] - ends[0] <= ROUNDING * max(abs(ends[0]), abs(ends[1])):
        return None
    sample = torch.from_numpy(values)
    mean, spread = _mean_and_spread(sample)
    levels = sample.clone()
    apply_tone(levels, Tone(ends[0], segments, gamma))
    mapped_mean, mapped_spread = _mean_and_spread(levels)
    if not spread > 0 or not mapped_spread > 0:
        return None
    scale = spread / mapped_spread * (-1 if invert else 1)
    return Tone(ends[0], segments, gamma, scale, mean - scale * mapped_mean)


def _mean_and_spread(values: Tensor) -> tuple[float, float]:
    mean = values.mean()
    return float(mean), float(torch.linalg.vector_norm(values - mean))
