"""A plan for an archive: another dataset's, carried over completely, or one of its own made without labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_volf.datasets import PREPROCESSED, nnunet_folder
from nnunet_volf.errors import DataError
from nnunet_volf.files import write_json
from nnunet_volf.networks.catalogue import network_in
from nnunet_volf.networks.context_plans import context_in
from nnunet_volf.plans import SETTINGS_KEYS, TARGET_KEY, PlannedDataset, read_plans, with_settings, without_settings
from nnunet_volf.pretext.catalogue import Method, load_settings

from .fingerprint import Fingerprint
from .imported import ImportedDataset
from .outputs import describe_dataset
from .planners import Planner
from .shared_data import with_data_of_its_own


def preprocessed_folder(dataset: ImportedDataset) -> Path:
    """Return the dataset's folder for preprocessed data, made if need be."""
    folder = nnunet_folder(PREPROCESSED) / dataset.name
    folder.mkdir(exist_ok=True)
    return folder


def plan_like(target: PlannedDataset, dataset: ImportedDataset, plans_name: str) -> dict[str, Any]:
    """Return the target's plans for another dataset: the network, the patch and every number that shapes voxels.

    Only names change: the dataset's, the plans', and those of the folders for preprocessed data, which follow the
    rule of nnUNetv2_move_plans_between_datasets. So weights trained under the copy fit the target tensor by tensor.
    """
    plans = copy.deepcopy(target.plans)
    source_name = plans["plans_name"]
    for name, configuration in plans["configurations"].items():
        if "data_identifier" in configuration:
            old = configuration["data_identifier"]
            rest = old.removeprefix(source_name) if old.startswith(source_name) else f"_{old}"
            configuration["data_identifier"] = f"{plans_name}{rest}"
        elif "inherits_from" not in configuration:  # written by hand, or by an old nnU-Net
            configuration["data_identifier"] = f"{plans_name}_{name}"
    return {
        **plans,
        "dataset_name": dataset.name,
        "plans_name": plans_name,
        TARGET_KEY: {"dataset_name": target.name, "plans_name": source_name},
    }


def check_channels(target: Mapping[str, str], dataset: ImportedDataset, target_name: str) -> list[str]:
    """Refuse another number of channels than the target's; return a warning where names differ."""
    names = [str(name) for name in target.values()]
    if len(names) != len(dataset.channel_names):
        raise DataError(
            f"{dataset.name} has {len(dataset.channel_names)} channels ({', '.join(dataset.channel_names)}) and "
            f"{target_name} has {len(names)} ({', '.join(names)}): the first layer would not fit. Import the same "
            f"channels (--channels {' '.join(f'{name}=PATTERN' for name in names)})."
        )
    return [
        f"channel {number} is {own} here and {other} in {target_name}; they are taken for the same"
        for number, (own, other) in enumerate(zip(dataset.channel_names, names, strict=True))
        if own.lower() != other.lower()
    ]


def require_same(before: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Refuse to replace plans that were trained with by others: that training's weights would be given out for them."""
    if without_settings(before) != without_settings(made):
        raise _trained(before, _origin(made))


def require_planner(before: Mapping[str, Any], planner: Planner) -> None:
    """Refuse to take plans that were trained with for plans of a planner or a network that did not make them."""
    if before.get(TARGET_KEY) is not None or _maker(before) != str(planner):
        raise _trained(before, f"by {planner}")


def _trained(before: Mapping[str, Any], asked: str) -> DataError:
    name = before["plans_name"]
    return DataError(
        f"{before['dataset_name']} was trained with {name}, which was made {_origin(before)}. The plan asked for, "
        f"{asked}, is another one, and those weights do not fit it. Give the new plan a name of its own: --as {name}2."
    )


def _origin(plans: Mapping[str, Any]) -> str:
    target = plans.get(TARGET_KEY)
    if target is None:
        return f"by {_maker(plans)}"
    return f"like {target['dataset_name']}, {target['plans_name']}"


def _maker(plans: Mapping[str, Any]) -> str:
    return str(Planner(plans["experiment_planner_used"], network_in(plans), context=context_in(plans)))


def plan_own(dataset: ImportedDataset, fingerprint: Fingerprint, plans_name: str, planner: Planner) -> dict[str, Any]:
    """Return plans made by one of nnU-Net's planners from a fingerprint that needed no labels."""
    plans = planner.plan(dataset.name, fingerprint.to_mapping(), plans_name)
    made = with_data_of_its_own(PlannedDataset(dataset.name, preprocessed_folder(dataset), plans))
    return {**made.plans, TARGET_KEY: None}


def write_plans(
    dataset: ImportedDataset,
    plans: dict[str, Any],
    configuration: str,
    changes: Mapping[str, Any],
    fingerprint: Fingerprint,
    method: Method,
) -> PlannedDataset:
    """Write all that training needs beside the voxels: plans with our settings, dataset.json, fingerprint.

    The description of the dataset holds no paths of the archive here: nnU-Net copies it into every checkpoint.
    """
    folder = preprocessed_folder(dataset)
    path = folder / f"{plans['plans_name']}.json"
    if path.is_file():
        plans = keep_settings(plans, read_plans(folder, plans["plans_name"]))
    made = PlannedDataset(dataset.name, folder, plans)
    made.configuration(configuration)
    planned = with_settings(made, configuration, changes, load_settings(method))

    write_json(folder / "dataset.json", describe_dataset(dataset.channel_names, len(dataset.cases)))
    write_json(folder / "dataset_fingerprint.json", fingerprint.to_mapping())
    write_json(path, planned.plans)
    return planned


def keep_settings(plans: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return new plans with the settings that an earlier file of this name had."""
    for name, configuration in plans["configurations"].items():
        for key in SETTINGS_KEYS:
            settings = before["configurations"].get(name, {}).get(key)
            if settings and key not in configuration:
                configuration[key] = settings
    return plans
