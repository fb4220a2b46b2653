"""Samples of Volume Fusion: choose two crops, augment them, fuse them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_volf.augment import Window, draw_apart, draw_start, draw_window
from nnunet_volf.cases import CaseImage, UnlabeledCases
from nnunet_volf.crops import centre, deep, flat, read_with_contrast
from nnunet_volf.pretext.volf.settings import VolFSettings

Transform = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class FusionSampler:
    """What is done to a pair of crops: all a loader worker needs, and all of it picklable."""

    patch: tuple[int, ...]
    settings: VolFSettings
    augment: Transform
    fuse: Transform
    finish: Transform | None = None  # targets for deep supervision
    padded_crop: tuple[int, ...] | None = None  # crops of this size, padded as nnU-Net pads them; None: never padded

    def draw(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> list[dict[str, Any]]:
        """Return a fusion on a case; with `reuse_crops` also the one with the roles of its crops exchanged."""
        pair = self.draw_pair(rng, cases, identifier)
        return [self.fused(pair), self.fused(exchange(pair))] if self.settings.reuse_crops else [self.fused(pair)]

    def draw_pair(self, rng: np.random.Generator, cases: UnlabeledCases, background: str) -> dict[str, Any]:
        """Return two augmented crops of patch size, ``image`` and ``partner``, and where they come from."""
        foreground = choose_partner(rng, background, cases.identifiers, self.settings)
        first, window = self._draw_crop(rng, cases.open(background))
        apart_from = window if foreground == background else None
        second, _ = self._draw_crop(rng, cases.open(foreground), apart_from)
        pair = self.augment(**_named(first, "image"), **_named(second, "partner"), rng=rng)
        return {**pair, "keys": (background, foreground)}

    def fused(self, pair: dict[str, Any]) -> dict[str, Any]:
        """Return ``image``, ``target`` and ``keys`` of a fused pair, and the two ``sources`` that were fused."""
        sample = self.fuse(**pair)
        if self.finish is not None:
            sample = self.finish(**sample)
        sources = (pair["image"], pair["partner"])
        return {"image": sample["image"], "target": sample["segmentation"], "keys": sample["keys"], "sources": sources}

    def _draw_crop(
        self, rng: np.random.Generator, case: CaseImage, apart_from: Window | None = None
    ) -> tuple[dict[str, Tensor], Window]:
        """Return a crop, with the mask of what is not padding where crops may be padded, and where it was cut."""
        crop, window = read_with_contrast(case, lambda: self._draw_window(rng, case, apart_from))
        parts = {"": crop}
        if self.padded_crop is not None:
            parts["_inside"] = inside_mask(window, case.volume)
        return {name: flat(part, self.patch) for name, part in parts.items()}, window

    def _draw_window(self, rng: np.random.Generator, case: CaseImage, apart_from: Window | None) -> Window:
        patch = deep(self.patch)

        def draw() -> Window:
            tissue = centre(rng, case, self.settings)
            if self.padded_crop is not None:
                return draw_padded_window(rng, case.volume, deep(self.padded_crop), patch, tissue)
            return draw_window(rng, case.volume, patch, self.settings.scale, tissue)

        return draw() if apart_from is None else draw_apart(draw, apart_from, patch, self.settings.minimum_distance)


def choose_partner(
    rng: np.random.Generator, background: str, identifiers: Sequence[str], settings: VolFSettings
) -> str:
    """Return the case that the foreground is cut from; a lone case is its own partner."""
    same = settings.partner == "same" or (settings.partner == "mixed" and rng.random() < settings.same_share)
    if same or len(identifiers) < 2:
        return background
    partner = background
    while partner == background:
        partner = identifiers[int(rng.integers(len(identifiers)))]
    return partner


def draw_padded_window(
    rng: np.random.Generator,
    volume: Sequence[int],
    crop: Sequence[int],
    patch: Sequence[int],
    around: Sequence[int] | None = None,
) -> Window:
    """Draw a crop as nnU-Net's loader does: larger than the patch, and reaching beyond the volume where it must.

    The crop may stick out by half of what it is larger than the patch, so that patches reach the border of the volume.
    """
    ends = []
    for side, size, inner in zip(volume, crop, patch, strict=True):
        padding = max(size - inner, size - side)
        low, high = -padding // 2, side + padding // 2 + padding % 2 - size
        ends.append((low, max(low, high)))
    return Window(draw_start(rng, ends, crop, around), tuple(crop))


def inside_mask(window: Window, volume: Sequence[int]) -> Tensor:
    """Return (1, *window), 1 where the window lies inside the volume and 0 where it was padded."""
    mask = torch.zeros(window.size, dtype=torch.int16)
    mask[tuple(slice(max(0, -a), max(0, side - a)) for a, side in zip(window.start, volume, strict=True))] = 1
    return mask[None]


def exchange(pair: dict[str, Any]) -> dict[str, Any]:
    """Return a pair with background and foreground exchanged."""
    swapped = {**pair, "image": pair["partner"], "partner": pair["image"], "keys": pair["keys"][::-1]}
    if "image_inside" in pair:
        swapped |= {"image_inside": pair["partner_inside"], "partner_inside": pair["image_inside"]}
    return swapped


def _named(parts: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {f"{name}{suffix}": part for suffix, part in parts.items()}
