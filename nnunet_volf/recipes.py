"""From a trainer's plan to what its loader does with each pair of crops."""

from __future__ import annotations

from typing import Any

from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform

from nnunet_volf.dataloading import Recipe
from nnunet_volf.settings import VolFSettings
from nnunet_volf.transforms import (
    AugmentEachTransform,
    KeepTransform,
    TwoCropAugmentTransform,
    VolumeFusionTransform,
)


def training_recipe(trainer: Any, settings: VolFSettings) -> Recipe:
    """Return how a trainer's training samples are made."""
    # Called for its side effect too: it sets the mirroring axes that nnU-Net writes into every checkpoint.
    rotation, dummy_2d, crop, mirror_axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    if settings.augmentation != "nnunet":
        return validation_recipe(trainer, settings)
    patch = tuple(trainer.configuration_manager.patch_size)
    own = trainer.get_training_transforms(patch, rotation, None, mirror_axes, dummy_2d)
    return _recipe(trainer, settings, AugmentEachTransform(own), tuple(int(side) for side in crop))


def validation_recipe(trainer: Any, settings: VolFSettings) -> Recipe:
    """Return how a trainer's validation samples are made.

    nnU-Net validates without augmentation, and so does its augmentation here. Volume Fusion's own is part of the pretext
    task and stays.
    """
    patch = tuple(trainer.configuration_manager.patch_size)
    if settings.augmentation == "volf":
        return _recipe(trainer, settings, TwoCropAugmentTransform(patch, settings), None)
    return _recipe(trainer, settings, KeepTransform(), padded_crop=patch)


def _recipe(
    trainer: Any, settings: VolFSettings, augment: Any, padded_crop: tuple[int, ...] | None
) -> Recipe:
    patch = tuple(trainer.configuration_manager.patch_size)
    scales = trainer._get_deep_supervision_scales()
    return Recipe(
        patch=patch,
        settings=settings,
        augment=augment,
        fuse=VolumeFusionTransform(patch, settings),
        finish=DownsampleSegForDSTransform(scales) if scales is not None else None,
        padded_crop=padded_crop,
    )
