"""Pretraining by Volume Fusion: ``nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainerVolF``."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_volf.pretext.volf.pretext import VolumeFusion
from nnunet_volf.pretraining import PretextTraining


class nnUNetTrainerVolF(PretextTraining, nnUNetTrainer):
    """nnU-Net's trainer on samples of Volume Fusion; the settings come from ``volf`` in the plans."""

    pretext_class = VolumeFusion
