"""Pretraining by VoCo: ``nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainerVoCo``."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_volf.pretext.voco.pretext import VolumeContrast
from nnunet_volf.pretraining import PretextTraining


class nnUNetTrainerVoCo(PretextTraining, nnUNetTrainer):
    """nnU-Net's trainer on samples of VoCo; the settings come from ``volf_voco`` in the plans."""

    pretext_class = VolumeContrast
