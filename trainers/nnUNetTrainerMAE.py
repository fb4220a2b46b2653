"""Pretraining by masked reconstruction: ``nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainerMAE``."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_volf.pretext.mae.pretext import MaskedReconstruction
from nnunet_volf.pretraining import PretextTraining


class nnUNetTrainerMAE(PretextTraining, nnUNetTrainer):
    """nnU-Net's trainer on samples of masked reconstruction; the settings come from ``volf_mae`` in the plans."""

    pretext_class = MaskedReconstruction
