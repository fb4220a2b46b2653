"""From a plan to what the loader does with each pair of crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform

from nnunet_volf.dataloading import Recipe
from nnunet_volf.settings import VolFSettings
from nnunet_volf.transforms import (
    AugmentEachTransform,
    KeepTransform,
    TwoCropAugmentTransform,
    VolumeFusionTransform,
)

Scales = Sequence[Sequence[float]] | None  # of the targets for deep supervision


def pair_recipe(patch: Sequence[int], settings: VolFSettings, scales: Scales = None) -> Recipe:
    """Return how samples are made for validation and previews, and for training too but with nnU-Net's augmentation.

    Volume Fusion's own augmentation is part of the pretext task and always there; nnU-Net's is for training only, as
    nnU-Net itself has it.
    """
    if settings.augmentation == "volf":
        return _recipe(patch, settings, scales, TwoCropAugmentTransform(patch, settings), padded_crop=None)
    return _recipe(patch, settings, scales, KeepTransform(), padded_crop=patch)


def training_recipe(trainer: Any, settings: VolFSettings) -> Recipe:
    """Return how a trainer's training samples are made."""
    patch = tuple(trainer.configuration_manager.patch_size)
    scales = trainer._get_deep_supervision_scales()
    # Called for its side effect too: it sets the mirroring axes that nnU-Net writes into every checkpoint.
    rotation, dummy_2d, crop, mirror_axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    if settings.augmentation != "nnunet":
        return pair_recipe(patch, settings, scales)
    own = trainer.get_training_transforms(patch, rotation, None, mirror_axes, dummy_2d)
    return _recipe(patch, settings, scales, AugmentEachTransform(own), padded_crop=[int(side) for side in crop])


def _recipe(
    patch: Sequence[int],
    settings: VolFSettings,
    scales: Scales,
    augment: BasicTransform,
    padded_crop: Sequence[int] | None,
) -> Recipe:
    return Recipe(
        patch=tuple(patch),
        settings=settings,
        augment=augment,
        fuse=VolumeFusionTransform(patch, settings),
        finish=DownsampleSegForDSTransform(scales) if scales is not None else None,
        padded_crop=None if padded_crop is None else tuple(padded_crop),
    )
