"""How well a segmentation agrees with the truth: nnU-Net's Dice, and how far the surfaces lie apart, class by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import (
    compute_metrics,
    key_to_label_or_region,
    label_or_region_to_key,
    region_or_label_to_mask,
)
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_volf.benchmark.results import Score
from nnunet_volf.benchmark.surfaces import compare_surfaces


def class_names(labels: LabelManager, description: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of each foreground class or region by the key that nnU-Net's evaluation gives it."""
    wanted = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    names = {_key(value): name for name, value in description["labels"].items() if value not in (0, [0])}
    return {str(label_or_region_to_key(label)): names[_key(label)] for label in wanted}


def score_case(
    case: str,
    truth: Path,
    prediction: Path,
    classes: Mapping[str, str],
    reader: Any,
    ignore_label: int | None,
    tolerance: float,
) -> tuple[Score, ...]:
    """Compare a predicted segmentation file with the true one."""
    labels = [key_to_label_or_region(key) for key in classes]
    dice = compute_metrics(str(truth), str(prediction), reader, labels, ignore_label)["metrics"]
    true, properties = reader.read_seg(str(truth))
    predicted, _ = reader.read_seg(str(prediction))
    true, predicted, spacing = _squeezed(true[0], predicted[0], properties["spacing"])
    counted = np.ones(true.shape, bool) if ignore_label is None else true != ignore_label
    scores = []
    for label, name in zip(labels, classes.values(), strict=True):
        there, found = (region_or_label_to_mask(segmentation, label) & counted for segmentation in (true, predicted))
        surface = compare_surfaces(there, found, spacing, tolerance)
        overlap = float(dice[label]["Dice"])
        if surface is None or math.isnan(overlap):
            scores.append(Score(case, name, None, None, None, None))
        else:
            scores.append(Score(case, name, overlap, surface.nsd, surface.hd95, surface.assd))
    return tuple(scores)


def _squeezed(true: Any, predicted: Any, spacing: Sequence[float]) -> tuple[Any, Any, list[float]]:
    """Take out the axis of length 1 that nnU-Net gives 2D images: across it, every voxel would be surface."""
    if true.shape[0] == 1:
        return true[0], predicted[0], list(spacing[1:])
    return true, predicted, list(spacing)


def _key(label: Any) -> Any:
    return tuple(label) if isinstance(label, (list, tuple)) else int(label)
