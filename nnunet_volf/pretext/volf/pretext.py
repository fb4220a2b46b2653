"""Volume Fusion as a pretext task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from torch import Tensor, nn

from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.pretext import Measures, Pretext, Sample
from nnunet_volf.pretext.volf.labels import fusion_labels
from nnunet_volf.pretext.volf.pairs import FusionSampler
from nnunet_volf.pretext.volf.panel import PanelCase, draw_panel
from nnunet_volf.pretext.volf.scoring import FusionScores, confusion_matrix, score
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.pretext.volf.shares import check_fusion, describe_shares
from nnunet_volf.pretext.volf.transforms import (
    AugmentEachTransform,
    KeepTransform,
    TwoCropAugmentTransform,
    VolumeFusionTransform,
)


class VolumeFusion(Pretext):
    """Two crops are mixed by a map of coefficients, and the network segments which coefficient was used where."""

    method = METHODS["volf"]
    deep_supervision = True
    refused_changes = ("coefficients",)

    def __init__(self, settings: VolFSettings, given: Given) -> None:
        """Refuse maps that cannot be learnt on this patch."""
        super().__init__(settings, given)
        check_fusion(given.patch, settings)
        self.classes = settings.coefficients + 1

    def labels(self) -> dict[str, int]:
        """Return the fusion classes."""
        return fusion_labels(self.settings.coefficients)

    def sampler(self, trainer: Any = None, training: bool = False) -> FusionSampler:
        """Return how crops are augmented and fused.

        Volume Fusion's own augmentation is part of the pretext task and always there; nnU-Net's is for training only,
        as nnU-Net itself has it.
        """
        patch, settings = self.given.patch, self.settings
        padded_crop: Sequence[int] | None = patch
        augment: BasicTransform = KeepTransform()
        if settings.augmentation == "volf":
            augment, padded_crop = TwoCropAugmentTransform(patch, settings), None
        elif settings.augmentation == "nnunet" and training and trainer is not None:
            rotation, dummy_2d, crop, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            mirrored = None if settings.turned else axes
            own = trainer.get_training_transforms(patch, rotation, None, mirrored, dummy_2d)
            augment, padded_crop = AugmentEachTransform(own), [int(side) for side in crop]
        scales = trainer._get_deep_supervision_scales() if trainer is not None else None
        return FusionSampler(
            patch=patch,
            settings=settings,
            augment=augment,
            fuse=VolumeFusionTransform(patch, settings),
            finish=DownsampleSegForDSTransform(scales) if scales is not None else None,
            padded_crop=None if padded_crop is None else tuple(padded_crop),
        )

    def loss(self, nnunets: Callable[[], nn.Module]) -> nn.Module:
        """Return Dice and cross-entropy as nnU-Net builds them, but Dice over the batch and with the background."""
        loss = nnunets()
        compound: Any = getattr(loss, "loss", loss)  # within the wrapper for deep supervision
        dice: Any = getattr(compound.dc, "_orig_mod", compound.dc)  # torch.compile wraps it
        dice.do_bg = dice.batch_dice = True
        return loss

    def measure(self, output: Any, target: Any) -> Measures:
        """Return the confusion matrix of a batch."""
        confusion = confusion_matrix(_finest(output).argmax(1), _finest(target), self.classes)
        return {"confusion": confusion.cpu().numpy()}

    def score(self, measures: Sequence[Measures]) -> FusionScores:
        """Return the scores of the confusion over all batches."""
        return score(np.sum([batch["confusion"] for batch in measures], axis=0))

    def expectation(self) -> str:
        """Say what is fused, and how the classes come up one after the other."""
        settings, k = self.settings, self.settings.coefficients
        turned = ", the foreground on its head" if settings.turned else ""
        toned = " with other tones" if settings.augmentation == "volf" and settings.intensity else ""
        return (
            f"{settings.scheme} maps, {k} coefficients, partner {settings.partner}{turned}, augmentation "
            f"{settings.augmentation}{toned}.\n"
            f"A healthy run: the cross-entropy starts near ln {k + 1} = {np.log(k + 1):.2f}. First nearly everything "
            f"is called background; then the classes around {k}/2 come up, which need not know which volume is the "
            f"background; those near {k} follow as 'k taken for K-k' falls. A curve that stays flat is not healthy."
        )

    def draw(self, samples: Sequence[Sample], outputs: Sequence[Any] | None, title: str, path: Path) -> None:
        """Draw both crops, their fusion, its classes and those that were found."""
        found = [None] * len(samples) if outputs is None else [_finest(o).argmax(1)[0].numpy() for o in outputs]
        cases = [PanelCase.from_sample(sample, prediction) for sample, prediction in zip(samples, found, strict=True)]
        draw_panel(cases, self.settings.coefficients, title, path)

    def preview(self, seed: int) -> list[str]:
        """Return a table of the share that each class has of the maps."""
        lines = describe_shares(self.given.patch, self.settings, seed)
        if self.settings.augmentation == "nnunet":
            lines.append("The picture shows the crops before nnU-Net's augmentation.")
        return lines


def _finest(scales: Tensor | Sequence[Tensor]) -> Tensor:
    return scales if isinstance(scales, Tensor) else scales[0]
