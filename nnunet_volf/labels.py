"""The labels of a pretraining dataset: what a pretext asks for, in place of what the dataset is labelled with.

nnU-Net builds its label manager, heads, losses, scores and predictions from ``dataset_json["labels"]``. Describing
other labels there makes all of these work natively, regions and ignore labels included: they are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def relabelled(dataset_json: Mapping[str, Any], labels: Mapping[str, int]) -> dict[str, Any]:
    """Return a copy of a dataset description with other labels."""
    kept = {key: value for key, value in dataset_json.items() if key != "regions_class_order"}
    return {**kept, "labels": dict(labels)}
