"""The summary of a finished pretraining: what was done, how well, and by which versions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
