"""Batches for Volume Fusion: choose two crops, augment them, fuse them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import DataLoader
from threadpoolctl import threadpool_limits
from torch import Tensor

from nnunet_volf.augment import Window, draw_apart, draw_start, draw_window
from nnunet_volf.cases import CaseImage, UnlabeledCases
from nnunet_volf.randomness import fresh_rng, sample_rng
from nnunet_volf.settings import VolFSettings

# A crop without contrast (air, padding) makes a fusion that cannot be solved; another is drawn, this often at most.
REDRAWS = 5

Transform = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Recipe:
    """What is done to a pair of crops: all a loader worker needs, and all of it picklable."""

    patch: tuple[int, ...]
    settings: VolFSettings
    augment: Transform
    fuse: Transform
    finish: Transform | None = None  # targets for deep supervision
    padded_crop: tuple[int, ...] | None = None  # crops of this size, padded as nnU-Net pads them; None: never padded


class FusionLoader(DataLoader):
    """Endless batches: ``data`` (b, c, *patch), ``target`` (b, 1, *patch) or a list of them for deep supervision."""

    def __init__(self, cases: UnlabeledCases, batch_size: int, recipe: Recipe) -> None:
        super().__init__(cases, batch_size, 1, None, True, False, True, None)
        self.indices = cases.identifiers
        self.cases = cases
        self.recipe = recipe

    def generate_train_batch(self) -> dict[str, Any]:
        """Draw a batch; with `reuse_crops` neighbours share a pair, with the roles of its crops exchanged."""
        samples: list[dict[str, Any]] = []
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            while len(samples) < self.batch_size:
                rng = fresh_rng()
                pair = self.draw_pair(rng)
                samples.append(self.fuse(pair))
                if self.recipe.settings.reuse_crops and len(samples) < self.batch_size:
                    samples.append(self.fuse(exchange(pair)))
        return collate(samples)

    def fixed_sample(self, seed: int, index: int) -> dict[str, Any]:
        """Return sample `index` of the series named by `seed`: always the same, for the same cases and settings.

        Beside the fused ``image`` and its ``target`` it holds the two ``sources`` that were fused.
        """
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            pair = self.draw_pair(sample_rng(seed, index), background=self.indices[index % len(self.indices)])
            return {**self.fuse(pair), "sources": (pair["image"], pair["partner"])}

    def draw_pair(self, rng: np.random.Generator, background: str | None = None) -> dict[str, Any]:
        """Return two augmented crops of patch size, ``image`` and ``partner``, and where they come from."""
        background = background or self.indices[int(rng.integers(len(self.indices)))]
        foreground = choose_partner(rng, background, self.indices, self.recipe.settings)
        first, window = self._draw_crop(rng, background)
        second, _ = self._draw_crop(rng, foreground, apart_from=window if foreground == background else None)
        pair = self.recipe.augment(**_named(first, "image"), **_named(second, "partner"), rng=rng)
        return {**pair, "keys": (background, foreground)}

    def fuse(self, pair: dict[str, Any]) -> dict[str, Any]:
        """Return ``image``, ``target`` and ``keys`` of a fused pair."""
        sample = self.recipe.fuse(**pair)
        if self.recipe.finish is not None:
            sample = self.recipe.finish(**sample)
        return {"image": sample["image"], "target": sample["segmentation"], "keys": sample["keys"]}

    def _draw_crop(
        self, rng: np.random.Generator, identifier: str, apart_from: Window | None = None
    ) -> tuple[dict[str, Tensor], Window]:
        """Return a crop, with the mask of what is not padding where crops may be padded, and where it was cut."""
        case = self.cases.open(identifier)
        for _ in range(REDRAWS):
            window = self._draw_window(rng, case, apart_from)
            crop = case.read(window)
            if crop.amax() > crop.amin():
                break
        parts = {"": crop}
        if self.recipe.padded_crop is not None:
            parts["_inside"] = inside_mask(window, case.volume)
        if len(self.recipe.patch) == 2:  # nnU-Net keeps 2D data as stacks of slices, and a patch is a part of one
            parts = {name: part[:, 0] for name, part in parts.items()}
        return parts, window

    def _draw_window(self, rng: np.random.Generator, case: CaseImage, apart_from: Window | None) -> Window:
        patch, settings = _deep(self.recipe.patch), self.recipe.settings

        def draw() -> Window:
            tissue = case.draw_tissue(rng) if settings.crops == "tissue" else None
            if self.recipe.padded_crop is not None:
                return draw_padded_window(rng, case.volume, _deep(self.recipe.padded_crop), patch, tissue)
            return draw_window(rng, case.volume, patch, settings.scale, tissue)

        return draw() if apart_from is None else draw_apart(draw, apart_from, patch, settings.minimum_distance)


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


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into the batch that nnU-Net's trainer takes."""
    targets = [sample["target"] for sample in samples]
    stacked = [torch.stack(scale) for scale in zip(*targets, strict=True)] if isinstance(targets[0], list) else None
    return {
        "data": torch.stack([sample["image"] for sample in samples]),
        "target": torch.stack(targets) if stacked is None else stacked,
        "keys": [sample["keys"] for sample in samples],
    }


def _named(parts: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {f"{name}{suffix}": part for suffix, part in parts.items()}


def _deep(size: Sequence[int]) -> tuple[int, ...]:
    return (1, *size) if len(size) == 2 else tuple(size)
