"""The summary of a finished pretraining: what was done, how well, and the command that uses it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.datasets import dataset_number
from nnunet_volf.plans import TARGET_KEY
from nnunet_volf.provenance import versions
from nnunet_volf.scoring import FusionScores
from nnunet_volf.settings import VolFSettings


def summarize(
    scores: FusionScores, confusion: NDArray[np.int64], loss: float, settings: VolFSettings, **about: Any
) -> dict[str, Any]:
    """Return scores, settings and versions as plain data; `about` comes first."""
    return {
        **about,
        "loss": loss,
        "mean_fused_dice": scores.mean_fused_dice,
        "mean_fused_dice_by_chance": scores.chance,
        "dice_per_class": _numbers(scores.dice),
        "ordinal_error": scores.ordinal_error,
        "k_taken_for_K_minus_k": _numbers(scores.swapped),
        "confusion_true_by_predicted": confusion.tolist(),
        "settings": settings.to_mapping(),
        "versions": versions(),
    }


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def fine_tune_commands(plans: Mapping[str, Any], configuration: str, checkpoint: Path) -> list[str]:
    """Return the commands that fine-tune encoder and decoder from a checkpoint: on the dataset that the plans are for.

    An archive that was planned by itself is for any dataset, which then takes over the archive's plans.
    """
    name, weights = plans["plans_name"], shlex.quote(str(checkpoint))
    if TARGET_KEY in plans and plans[TARGET_KEY] is None:
        source = dataset_number(plans["dataset_name"])
        return [
            f"nnUNetv2_move_plans_between_datasets -s {source} -t DATASET -sp {name} -tp {name}",
            f"nnUNetv2_preprocess -d DATASET -plans_name {name} -c {configuration}",
            f"nnUNetv2_train DATASET {configuration} 0 -p {name} -pretrained_weights {weights}",
        ]
    target = plans.get(TARGET_KEY, plans)
    number = dataset_number(target["dataset_name"])
    return [f"nnUNetv2_train {number} {configuration} 0 -p {target['plans_name']} -pretrained_weights {weights}"]
