"""Which preprocessed data plans use: that of other plans of the dataset, where the voxels are the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnunet_volf.files import read_json
from nnunet_volf.plans import PlannedDataset, plans_in, read_plans

from .signature import plan_signature


def with_data_of_its_own(planned: PlannedDataset) -> PlannedDataset:
    """Give configurations a folder of their own where other plans keep other voxels in the one that was planned.

    nnU-Net's planners name the folder by a rule, which does not know of a dataset that has grown since, or of a
    spacing that was chosen.
    """
    plans = copy.deepcopy(planned.plans)
    kept = [found for other in _other_plans(planned) for found in _kept_by(other)]
    for name, own in plans["configurations"].items():
        if "data_identifier" in own:
            voxels = _voxels(planned, name)
            if any(folder == own["data_identifier"] and theirs != voxels for folder, theirs in kept):
                own["data_identifier"] = f"{plans['plans_name']}_{name}"
    return PlannedDataset(planned.name, planned.folder, plans)


def cases_preprocessed(planned: PlannedDataset, configuration: str, raw_folder: Path) -> tuple[int, int]:
    """Return how many cases of a labelled dataset are preprocessed for a configuration, and how many there are."""
    from nnunetv2.utilities.utils import get_identifiers_from_splitted_dataset_folder

    description = read_json(raw_folder / "dataset.json")
    listed = description.get("dataset")  # nnU-Net takes a list of files in place of a folder
    found = listed or get_identifiers_from_splitted_dataset_folder(
        str(raw_folder / "imagesTr"), description["file_ending"]
    )
    cases = {str(case) for case in found}
    folder = planned.folder / planned.configuration(configuration)["data_identifier"]
    done = {path.stem for path in folder.glob("*.pkl")}  # nnU-Net writes one a case, in all of its formats
    return len(cases & done), len(cases)


def _other_plans(planned: PlannedDataset) -> Iterator[PlannedDataset]:
    for name in plans_in(planned.folder):
        if name != planned.plans["plans_name"]:
            yield PlannedDataset(planned.name, planned.folder, read_plans(planned.folder, name))


def _kept_by(planned: PlannedDataset) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, own in planned.plans["configurations"].items():
        if "data_identifier" in own:
            yield own["data_identifier"], _voxels(planned, name)


def _voxels(planned: PlannedDataset, configuration: str) -> dict[str, Any]:
    """Return all that decides on the voxels of preprocessed images and labels."""
    made = planned.configuration(configuration)
    labels = {"labels": [made["resampling_fn_seg"], made["resampling_fn_seg_kwargs"]]}
    return plan_signature(planned.plans, made, dtype="") | labels
