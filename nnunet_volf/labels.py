"""The label description of a pretraining dataset: the fusion classes in place of whatever the dataset is labelled with.

nnU-Net builds its label manager, heads, losses, scores and predictions from ``dataset_json["labels"]``. Describing the
fusion classes there makes all of these work natively, regions and ignore labels included: they are gone.
"""

from __future__ import annotations

from typing import Any


def fusion_labels(coefficients: int) -> dict[str, int]:
    """Return names for the classes 0 ... K; class k is fused with coefficient k / K."""
    return {"background": 0, **{f"fused_{k}_of_{coefficients}": k for k in range(1, coefficients + 1)}}


def fusion_dataset_json(dataset_json: dict[str, Any], coefficients: int) -> dict[str, Any]:
    """Return a copy of a dataset description whose labels are the fusion classes."""
    kept = {key: value for key, value in dataset_json.items() if key != "regions_class_order"}
    return {**kept, "labels": fusion_labels(coefficients)}
