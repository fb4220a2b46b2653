"""What datasets and plans say about themselves, as far as we read it: the shape of dataset.json and of plans files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.documents import Each, Entries, Rule, check_document, read_document
from nnunet_volf.errors import DataError
from nnunet_volf.printable import shortened

# Drives, devices, and what ends a name on some system; a name that is used as a file's has to work on all of them.
_FILE_NAME = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]{1,200}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class Text(Rule):
    """Any text that can be shown."""

    what = "a text"

    def fits(self, value: Any) -> bool:
        """Say whether it is."""
        return isinstance(value, str) and value.isprintable()


class FileName(Rule):
    """A text that becomes the name of a file or a folder: one that leads nowhere else."""

    what = "a name that a file can have"

    def fits(self, value: Any) -> bool:
        """Say whether it is."""
        return isinstance(value, str) and is_file_name(value)


@dataclass(frozen=True)
class Number(Rule):
    """A number within bounds."""

    least: float = -math.inf
    whole: bool = False

    @property
    def what(self) -> str:  # type: ignore[override]
        """Say which numbers are meant."""
        kind = "a whole number" if self.whole else "a finite number"
        return f"{kind} of {self.least:g} or more" if self.least > -math.inf else kind

    def fits(self, value: Any) -> bool:
        """Say whether it is one."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.least <= value < _ENDLESS


class DatasetName(Rule):
    """What nnU-Net calls a dataset, and its folder."""

    what = "the name of a dataset, such as Dataset004_Hippocampus"

    def fits(self, value: Any) -> bool:
        """Say whether it is."""
        return isinstance(value, str) and is_file_name(value) and bool(re.fullmatch(r"Dataset\d{3}_.+", value))


class Truth(Rule):
    """True or false."""

    what = "true or false"

    def fits(self, value: Any) -> bool:
        """Say whether it is."""
        return isinstance(value, bool)


def is_file_name(name: str) -> bool:
    """Say whether a text can be the name of a file in a folder, and of nothing outside it, on any system."""
    if not _FILE_NAME.fullmatch(name) or name != name.strip() or name.strip(".") == "" or name.endswith("."):
        return False
    return name.isprintable() and not _DEVICES.fullmatch(name)


_ENDLESS = 1e15  # above it a float is no longer exact to a whole number, and nothing here is that many or that far
_SIDES = (2, 3)

_CHANNELS = Entries(others=Text())
_DATASET = Entries({
    "channel_names": _CHANNELS,
    "modality": _CHANNELS,
    "dataset": Entries(others=Entries({"images": Each(Text())}, needed=("images",))),
    "labels": Entries(),
    "numTraining": Number(0, whole=True),
    "file_ending": Text(),
    "overwrite_image_reader_writer": Text(),
})  # fmt: skip

_NETWORK = Entries({"network_class_name": Text(), "arch_kwargs": Entries(), "_kw_requires_import": Each(Text())})
_CONFIGURATION = Entries({
    "inherits_from": Text(),
    "data_identifier": FileName(),
    "preprocessor_name": Text(),
    "batch_size": Number(1, whole=True),
    "patch_size": Each(Number(1, whole=True), _SIDES),
    "median_image_size_in_voxels": Each(Number(0), _SIDES),
    "spacing": Each(Number(1e-9), _SIDES),
    "normalization_schemes": Each(Text()),
    "use_mask_for_norm": Each(Truth()),
    "resampling_fn_data": Text(),
    "resampling_fn_seg": Text(),
    "resampling_fn_data_kwargs": Entries(),
    "resampling_fn_seg_kwargs": Entries(),
    "architecture": _NETWORK,
})  # fmt: skip
_PLANS = Entries(
    {
        "dataset_name": DatasetName(),
        "plans_name": FileName(),
        "image_reader_writer": Text(),
        "transpose_forward": Each(Number(0, whole=True), _SIDES),
        "transpose_backward": Each(Number(0, whole=True), _SIDES),
        "experiment_planner_used": Text(),
        "label_manager": Text(),
        "foreground_intensity_properties_per_channel": Entries(others=Entries()),
        "configurations": Entries(others=_CONFIGURATION),
    },
    needed=("plans_name", "configurations"),
)


def read_dataset_json(path: Path) -> dict[str, Any]:
    """Read the description of a dataset: an object, in which what is read here is of the type that it has to be."""
    description: dict[str, Any] = read_document(path)
    check_document(path, description, _DATASET, "Correct it to what nnU-Net asks for.")
    return description


def channel_names(path: Path, description: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of a dataset's channels by number; they were modalities for nnU-Net v1 and the Decathlon."""
    names: dict[str, str] = description.get("channel_names") or description.get("modality") or {}
    if not names:
        raise DataError(f'{path} has no \'channel_names\'. Add them, for example {{"0": "CT"}}.')
    if sorted(names) != sorted(str(number) for number in range(len(names))):
        raise DataError(
            f"{path} numbers its {len(names)} channels {shortened(', '.join(names))}. Number them from 0 on, without "
            "gaps."
        )
    return {str(number): names[str(number)] for number in range(len(names))}


def read_plans_json(path: Path) -> dict[str, Any]:
    """Read plans; what they leave out is asked for where it is needed."""
    plans: dict[str, Any] = read_document(path)
    check_document(path, plans, _PLANS, "Correct it, or plan the dataset again.")
    return plans
