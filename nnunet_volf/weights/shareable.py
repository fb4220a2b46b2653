"""What of a training's description may leave the house: nothing that names a patient, a file or a folder.

Plans and dataset descriptions are open formats: planners, converters and users write what they like into them. So what
goes out is listed here, and everything else stays, as does any text that looks like a place on a disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nnunet_volf.checkpoints import plain
from nnunet_volf.plans import TARGET_KEY
from nnunet_volf.weights.record import RECORD_KEY

# What nnU-Net's planners write (ExperimentPlanner.plan_experiment), and ours.
_PLANS = (
    "dataset_name", "plans_name", "original_median_spacing_after_transp", "original_median_shape_after_transp",
    "image_reader_writer", "transpose_forward", "transpose_backward", "configurations", "experiment_planner_used",
    "label_manager", "foreground_intensity_properties_per_channel", TARGET_KEY,
)  # fmt: skip

# What nnU-Net reads when it trains and predicts. "dataset", which lists cases and files, is none of it.
_DATASET = (
    "channel_names", "modality", "labels", "regions_class_order", "numTraining", "file_ending",
    "overwrite_image_reader_writer",
)  # fmt: skip

# What our trainers and commands note under their key of a checkpoint, and no state of the training.
_NOTES = ("method", "transfers", "settings", "data", "versions", "started_from", "adapted", "citations", RECORD_KEY)

# /home/me, C:\data, \\server\share, ~/data, file:///data; at the start of a text or within it
_PLACE = re.compile(r"""(^|[\s"'=(,;])(/[\w.]|[A-Za-z]:[\\/]|\\\\\w|~[\w/\\]|file:)""")


def shareable_plans(plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return plans with what describes preparation and network."""
    return _shareable(plans, _PLANS)


def shareable_dataset(dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset's description with its channels and labels, without its cases."""
    return _shareable(dataset_json, _DATASET)


def shareable_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this package has noted of how weights came about."""
    return _shareable(notes, _NOTES)


def left_out(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Name what is in a description and not in its shareable part, as ``plans.pretrain_info``."""
    for name, value in before.items():
        if str(name) not in after:
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping):
            yield from left_out(value, after[str(name)], f"{prefix}{name}.")


def is_place(text: str) -> bool:
    """Say whether a text is or contains what looks like a place on a disk."""
    return _PLACE.search(text) is not None


def _shareable(mapping: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named entries, without places, as what a JSON file would give: the same every time."""
    kept = _without_places(plain({name: mapping[name] for name in names if name in mapping}))
    described: dict[str, Any] = json.loads(json.dumps(kept))
    return described


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_places(item) for name, item in value.items() if _names(name) and _goes_out(item)}
    if isinstance(value, (list, tuple)):
        return [_without_places(item) for item in value if _goes_out(item)]
    return value


def _names(value: object) -> bool:
    return isinstance(value, (str, int)) and _goes_out(value)


def _goes_out(value: object) -> bool:
    """Say whether a value is plain and no place; what is inside a container is asked for itself."""
    if isinstance(value, str):
        return not is_place(value)
    return value is None or isinstance(value, (bool, int, float, Mapping, list, tuple))
