"""Samples of masked reconstruction: a crop with hidden blocks, and the crop itself with the mask as target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor

from nnunet_volf.augment import Look, augment, draw_look
from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.crops import draw_crop
from nnunet_volf.parcels import Parcel
from nnunet_volf.pretext.mae.masking import Masking, check_masking, draw_masking, paint_mask
from nnunet_volf.pretext.mae.settings import MAESettings
from nnunet_volf.pretext.pretext import Sample, Sampler
from nnunet_volf.randomness import fresh_rng


class MaskBlocksTransform(BasicTransform):
    """Hide blocks of an image by zero, and keep the image and the mask as its segmentation (c + 1, *patch)."""

    def __init__(self, patch: Sequence[int], settings: MAESettings) -> None:
        super().__init__()
        check_masking(patch, settings)
        self.patch = tuple(patch)
        self.settings = settings

    def get_parameters(self, **data: Any) -> dict[str, Masking]:
        """Draw which blocks are hidden."""
        return {"masking": draw_masking(data.get("rng") or fresh_rng(), self.patch, self.settings)}

    def apply(self, data: dict[str, Any], *, masking: Masking) -> dict[str, Any]:
        """Hide the blocks in all channels."""
        image: Tensor = data["image"]
        hidden = torch.from_numpy(paint_mask(masking, self.patch)).to(image.device)
        target = torch.cat([image, hidden[None].to(image.dtype)])
        return {**data, "image": image.masked_fill(hidden, 0), "segmentation": target}


@dataclass(frozen=True)
class DrawnCrop:
    """All that is drawn for a crop, and where it comes from."""

    key: str
    look: Look
    masked: dict[str, Any]  # parameters of the transform


@dataclass(frozen=True)
class MaskedSampler(Sampler):
    """Cut a crop, show it as drawn, hide blocks of it."""

    patch: tuple[int, ...]
    settings: MAESettings
    mask: MaskBlocksTransform

    def collect(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> Parcel:
        """Read a crop, and draw how it is shown and what of it is hidden."""
        crop, _ = draw_crop(rng, cases.open(identifier), self.patch, self.settings)
        look = draw_look(rng, len(crop), len(self.patch), self.settings)
        return Parcel((crop,), DrawnCrop(identifier, look, self.mask.get_parameters(rng=rng)))

    def make(self, parcel: Parcel) -> list[Sample]:
        """Return one sample."""
        drawn: DrawnCrop = parcel.drawn
        sample = self.mask.apply({"image": augment(parcel.crops[0], self.patch, drawn.look)}, **drawn.masked)
        return [{"image": sample["image"], "target": sample["segmentation"], "keys": (drawn.key,)}]
