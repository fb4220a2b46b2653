"""Samples of Volume Fusion: choose two crops, augment them, fuse them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor

from nnunet_volf.augment import Window, draw_apart, draw_start, draw_window
from nnunet_volf.cases import CaseImage, UnlabeledCases
from nnunet_volf.crops import centre, deep, flat, read_with_contrast
from nnunet_volf.parcels import Parcel
from nnunet_volf.pretext.pretext import Sample, Sampler
from nnunet_volf.pretext.volf.settings import VolFSettings


@dataclass(frozen=True)
class DrawnPair:
    """All that is drawn for a pair of crops, and where they come from."""

    keys: tuple[str, str]  # the cases of background and foreground
    inside: tuple[tuple[Window, tuple[int, ...]], ...]  # window and volume of each crop that may be padded
    shown: dict[str, Any]  # parameters of the augmentation
    fused: tuple[dict[str, Any], ...]  # parameters of each fusion; the second has the roles of the crops exchanged


@dataclass(frozen=True)
class FusionSampler(Sampler):
    """What is done to a pair of crops: all a loader worker needs, and all of it picklable."""

    patch: tuple[int, ...]
    settings: VolFSettings
    augment: BasicTransform
    fuse: BasicTransform
    finish: BasicTransform | None = None  # targets for deep supervision
    padded_crop: tuple[int, ...] | None = None  # crops of this size, padded as nnU-Net pads them; None: never padded

    def collect(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> Parcel:
        """Read two crops, and draw how they are shown and fused."""
        partner = choose_partner(rng, identifier, cases.identifiers, self.settings)
        background, foreground = cases.open(identifier), cases.open(partner)
        first, window = self._draw_crop(rng, background)
        second, beside = self._draw_crop(rng, foreground, window if partner == identifier else None)
        pair = {"image": first, "partner": second}
        shown = self.augment.get_parameters(**pair, rng=rng)
        fused = [self.fuse.get_parameters(**pair, rng=rng) for _ in range(2 if self.settings.reuse_crops else 1)]
        places = ((window, background.volume), (beside, foreground.volume))
        inside = () if self.padded_crop is None else places
        return Parcel((first, second), DrawnPair((identifier, partner), inside, shown, tuple(fused)), len(fused))

    def make(self, parcel: Parcel) -> list[Sample]:
        """Return a fusion of the pair; with `reuse_crops` also the one with the roles of its crops exchanged."""
        pair = self.augmented(parcel)
        roles = (pair, exchange(pair))
        return [self._fused(roles[number], drawn) for number, drawn in enumerate(parcel.drawn.fused)]

    def augmented(self, parcel: Parcel) -> dict[str, Any]:
        """Return two crops of patch size, ``image`` and ``partner``, each with a mask where crops may be padded."""
        drawn: DrawnPair = parcel.drawn
        image, partner = parcel.crops
        pair = {"image": image, "partner": partner, "keys": drawn.keys}
        for name, place in zip(("image_inside", "partner_inside"), drawn.inside, strict=False):
            pair[name] = flat(inside_mask(*place), self.patch).to(image.device)
        shown: dict[str, Any] = self.augment.apply(pair, **drawn.shown)
        return shown

    def _fused(self, pair: dict[str, Any], drawn: dict[str, Any]) -> Sample:
        """Return ``image``, ``target`` and ``keys`` of a fused pair, and the two ``sources`` that were fused."""
        sample = self.fuse.apply(pair, **drawn)
        sources = (pair["image"], sample["partner"])
        if self.finish is not None:
            sample = self.finish(**sample)
        return {"image": sample["image"], "target": sample["segmentation"], "keys": sample["keys"], "sources": sources}

    def _draw_crop(
        self, rng: np.random.Generator, case: CaseImage, apart_from: Window | None = None
    ) -> tuple[Tensor, Window]:
        """Return a crop, and where it was cut."""
        crop, window = read_with_contrast(case, lambda: self._draw_window(rng, case, apart_from))
        return flat(crop, self.patch), window

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
