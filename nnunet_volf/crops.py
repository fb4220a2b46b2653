"""Cut crops out of cases, where they show something."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from nnunet_volf.augment import Window, draw_window
from nnunet_volf.cases import CaseImage
from nnunet_volf.pretext.settings import PretrainingSettings

# A crop without contrast (air, padding) has nothing to learn from; another is drawn, this often at most.
REDRAWS = 5


def draw_crop(
    rng: np.random.Generator, case: CaseImage, patch: Sequence[int], settings: PretrainingSettings
) -> tuple[Tensor, Window]:
    """Return a crop of about the patch's size (c, *any), to be resized to it, and where it was cut."""

    def draw() -> Window:
        return draw_window(rng, case.volume, deep(patch), settings.scale, centre(rng, case, settings))

    crop, window = read_with_contrast(case, draw)
    return flat(crop, patch), window


def read_with_contrast(case: CaseImage, draw: Callable[[], Window]) -> tuple[Tensor, Window]:
    """Read a window with contrast, or the last of a few without."""
    for _ in range(REDRAWS):
        window = draw()
        crop, shows = case.read_showing(window)
        if shows:
            break
    return crop, window


def centre(rng: np.random.Generator, case: CaseImage, settings: PretrainingSettings) -> tuple[int, ...] | None:
    """Draw a voxel of tissue that a crop has to hold, or None where it may lie anywhere."""
    return case.draw_tissue(rng) if settings.crops == "tissue" else None


def deep(size: Sequence[int]) -> tuple[int, ...]:
    """Return a patch's size in 3D: nnU-Net keeps 2D data as stacks of slices, and a patch is a part of one."""
    return (1, *size) if len(size) == 2 else tuple(size)


def flat(crop: Tensor, patch: Sequence[int]) -> Tensor:
    """Return a crop with as many axes as the patch."""
    return crop[:, 0] if len(patch) == 2 else crop
