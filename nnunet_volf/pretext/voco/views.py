"""How a crop is shown: flipped, turned and with other intensities; its label is where it lies and stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from nnunet_volf.augment import Look, augment, draw_look
from nnunet_volf.pretext.voco.settings import VoCoSettings

Plane = tuple[int, int]

# Spacings that differ by less are one: plans hold medians of what scanners write.
_SAME_SPACING = 0.01


@dataclass(frozen=True)
class View:
    """What is done to one crop."""

    look: Look
    plane: Plane | None = None  # turned in this plane
    quarters: int = 0  # by this many quarters


def planes_to_turn_in(crop: Sequence[int], spacing: Sequence[float]) -> tuple[Plane, ...]:
    """Return the pairs of axes along which a crop is equally large and equally fine, so that it can be turned."""
    return tuple(
        (a, b)
        for a, b in combinations(range(len(crop)), 2)
        if crop[a] == crop[b] and abs(spacing[a] - spacing[b]) <= _SAME_SPACING * max(spacing[a], spacing[b])
    )


def draw_view(rng: np.random.Generator, shape: Sequence[int], planes: Sequence[Plane], settings: VoCoSettings) -> View:
    """Draw how a crop (c, *size) is shown, whatever is drawn for others and wherever it lies."""
    look = draw_look(rng, shape[0], len(shape) - 1, settings)
    if not planes or rng.random() >= settings.rotate:
        return View(look)
    return View(look, planes[int(rng.integers(len(planes)))], int(rng.integers(1, 4)))


def show(crop: Tensor, view: View) -> Tensor:
    """Return a crop (c, *size) as drawn; the input is left as it is."""
    seen = augment(crop, crop.shape[1:], view.look)
    if view.plane is None:
        return seen
    a, b = view.plane
    return torch.rot90(seen, view.quarters, (a + 1, b + 1))
