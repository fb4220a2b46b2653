"""Volume Fusion as batchgenerators transforms: thin shells over `augment` and `fusion`.

A pair travels as ``image`` (the background) and ``partner`` (the foreground), each (c, *spatial). A generator given as
``rng`` makes the result a function of it; without one the transforms draw from numpy's global state, as those of
batchgenerators do. `PairVolumeFusion` is the same for the classic numpy dictionaries (b, c, x, y(, z)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from batchgenerators.transforms.abstract_transforms import AbstractTransform
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor

from nnunet_volf.augment import Look, augment, draw_looks
from nnunet_volf.errors import DataError
from nnunet_volf.pretext.volf.fusion import Layout, Shuffle, draw_layout, move_blocks, volume_fusion
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.pretext.volf.shares import check_fusion
from nnunet_volf.randomness import fresh_rng


class TwoCropAugmentTransform(BasicTransform):
    """Bring two crops of any size to the patch, each with its own flips and intensities.

    Where the foreground will be turned, neither is flipped: how they stand is what tells them apart.
    """

    def __init__(self, patch: Sequence[int], settings: VolFSettings) -> None:
        super().__init__()
        self.patch = tuple(patch)
        self.settings = replace(settings, flip=0.0) if settings.turned else settings

    def get_parameters(self, **data: Any) -> dict[str, tuple[Look, Look]]:
        """Draw how each of the two crops is shown."""
        rng = data.get("rng") or fresh_rng()
        return {"looks": draw_looks(rng, len(data["image"]), len(self.patch), self.settings)}

    def apply(self, data: dict[str, Any], *, looks: tuple[Look, Look]) -> dict[str, Any]:
        """Resize and show the crops as drawn."""
        pair = (data["image"], data["partner"])
        image, partner = (augment(crop, self.patch, look) for crop, look in zip(pair, looks, strict=True))
        return {**data, "image": image, "partner": partner}


class AugmentEachTransform(BasicTransform):
    """Apply a transform made for single images, such as nnU-Net's own augmentation, to each of the two crops.

    Where a crop had to be padded it brings a mask (``image_inside``, ``partner_inside``: 1 is tissue, 0 is padding),
    which goes through the same geometry as the crop.
    """

    def __init__(self, transform: BasicTransform) -> None:
        super().__init__()
        self.transform = transform

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform image and partner one after the other."""
        changed: dict[str, Any] = {}
        for name in ("image", "partner"):
            shown = self.transform(image=data[name], segmentation=data[f"{name}_inside"])
            changed |= {name: shown["image"], f"{name}_inside": shown["segmentation"]}
        return {**data, **changed}


class KeepTransform(BasicTransform):
    """Leave the pair as it was cut."""

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data unchanged."""
        return data


class VolumeFusionTransform(BasicTransform):
    """Turn a pair of crops into a fused image and, as its segmentation, the map of fusion classes.

    Where both crops are padding nothing can be fused; the label there is background. The result's ``partner`` is the
    foreground as it was fused: with ``turned`` it stands on its head.
    """

    def __init__(self, patch: Sequence[int], settings: VolFSettings) -> None:
        super().__init__()
        check_fusion(patch, settings)
        self.patch = tuple(patch)
        self.settings = settings

    def get_parameters(self, **data: Any) -> dict[str, Layout]:
        """Draw the layout of the fusion."""
        return {"layout": draw_layout(data.get("rng") or fresh_rng(), self.patch, self.settings)}

    def apply(self, data: dict[str, Any], *, layout: Layout) -> dict[str, Any]:
        """Fuse the pair by the layout; image (c, *patch) float32, segmentation (1, *patch) uint8."""
        _check_pair(data["image"], data["partner"], self.patch)
        if self.settings.turned:
            data = {**data, **{name: turn(data[name]) for name in ("partner", "partner_inside") if name in data}}
        image, labels = volume_fusion(data["image"], data["partner"], layout, self.settings.coefficients)
        if "image_inside" in data:
            inside = data["partner_inside"]
            if isinstance(layout, Shuffle):  # the mask goes where the foreground went
                inside = move_blocks(inside, layout)
            labels[(data["image_inside"] <= 0) & (inside <= 0)] = 0
        return {**data, "image": image, "segmentation": labels}


def turn(crop: Tensor) -> Tensor:
    """Return a crop (c, *spatial) flipped along every axis, as no body stands."""
    return crop.flip(tuple(range(1, crop.ndim)))


class PairVolumeFusion(AbstractTransform):
    """Volume Fusion for classic batchgenerators: augments and fuses ``data`` and ``partner`` to ``data`` and ``seg``.

    Both are numpy batches (b, c, x, y(, z)) of any spatial size. Without a ``partner`` the batch is fused with itself
    rolled by one, as in the 2023 publication, which takes a batch of two or more.
    """

    def __init__(self, patch: Sequence[int], settings: VolFSettings) -> None:
        self.augment = TwoCropAugmentTransform(patch, settings)
        self.fuse = VolumeFusionTransform(patch, settings)

    def __call__(self, **batch: Any) -> dict[str, Any]:
        """Return the batch with fused images as float32 ``data`` and class maps as int16 ``seg`` (b, 1, x, y(, z))."""
        background = np.asarray(batch["data"])
        if batch.get("partner") is None and len(background) < 2:
            raise DataError(
                f"A batch of {len(background)} cannot be fused with itself: the image would not change, whatever the "
                "label. Use a batch size of 2 or more, or give a second batch as 'partner'."
            )
        foreground = np.asarray(batch.get("partner") if batch.get("partner") is not None else np.roll(background, 1, 0))
        if len(foreground) != len(background):
            raise DataError(
                f"'data' holds {len(background)} sample(s) and 'partner' {len(foreground)}. Give batches of one size."
            )
        samples = [
            self.fuse(**self.augment(image=_tensor(b), partner=_tensor(f)))
            for b, f in zip(background, foreground, strict=True)
        ]
        batch["data"] = np.stack([sample["image"].numpy() for sample in samples])
        batch["seg"] = np.stack([sample["segmentation"].numpy().astype(np.int16) for sample in samples])
        return batch


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _check_pair(image: Tensor, partner: Tensor, patch: tuple[int, ...]) -> None:
    if image.shape != partner.shape or tuple(image.shape[1:]) != patch:
        raise DataError(
            f"Fusion takes two crops of shape (channels, {', '.join(map(str, patch))}) and got {tuple(image.shape)} "
            f"and {tuple(partner.shape)}. Bring both to the patch size first, for example with TwoCropAugmentTransform."
        )
