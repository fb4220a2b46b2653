"""Pretraining by SLeM: ``nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainerSLeM``."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_volf.pretext.slem.pretext import Recombination
from nnunet_volf.pretraining import PretextTraining


class nnUNetTrainerSLeM(PretextTraining, nnUNetTrainer):
    """nnU-Net's trainer on recombined channels; the settings come from ``volf_slem`` in the plans."""

    pretext_class = Recombination
