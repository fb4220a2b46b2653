"""Plans of a labelled dataset with a network or block of ours, from the fingerprint that nnU-Net has taken."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_volf.datasets import PREPROCESSED, RAW, dataset_number, find_dataset, nnunet_folder
from nnunet_volf.errors import DataError, SettingsError
from nnunet_volf.files import read_json, replacing, write_json
from nnunet_volf.launch import trainings_with
from nnunet_volf.locks import only_planning
from nnunet_volf.networks.catalogue import Network, describe_network, network_in, network_of
from nnunet_volf.networks.context_plans import context_in, has_context
from nnunet_volf.plans import PlannedDataset, read_plans, with_settings, without_settings
from nnunet_volf.pretext.catalogue import Method, load_settings

from .planners import Planner
from .planning import keep_settings
from .shared_data import with_data_of_its_own


def plan_target(dataset: str, planner: Planner, plans_name: str) -> PlannedDataset:
    """Return a labelled dataset with new plans, which are not written yet.

    Settings and configurations that an earlier file of this name has beside the planner's are kept, as nnU-Net does.
    """
    raw = find_dataset(dataset, RAW)
    folder = nnunet_folder(PREPROCESSED) / raw.name
    path = folder / "dataset_fingerprint.json"
    if not path.is_file():
        raise DataError(
            f"{raw.name} has no fingerprint ({path} does not exist), from which plans are made. Let nnU-Net take it: "
            f"nnUNetv2_extract_fingerprint -d {dataset_number(raw.name)}."
        )
    before = read_plans(folder, plans_name) if (folder / f"{plans_name}.json").is_file() else None
    if before is not None:
        _require_ours(before, planner, folder / f"{plans_name}.json")
    plans = planner.plan(raw.name, read_json(path), plans_name)
    made = with_data_of_its_own(PlannedDataset(raw.name, folder, plans))
    if before is None:
        return made
    plans = keep_settings(made.plans, before)
    plans["configurations"] = {**before["configurations"], **plans["configurations"]}
    return PlannedDataset(raw.name, folder, plans)


def write_target(
    planned: PlannedDataset, configuration: str, changes: Mapping[str, Any], method: Method
) -> PlannedDataset:
    """Write plans, and what nnU-Net's planner writes beside them; plans that were trained with are not replaced."""
    planned.configuration(configuration)  # says which there are
    if changes:
        planned = with_settings(planned, configuration, changes, load_settings(method))
    name = planned.plans["plans_name"]
    path = planned.folder / f"{name}.json"
    trained = trainings_with(planned.name, name, trainers=("*",))
    if trained and path.is_file() and without_settings(read_json(path)) != without_settings(planned.plans):
        raise DataError(
            f"{planned.name} was trained with {name} ({trained[0]}), and plans made now are others, which those "
            f"weights do not fit. Give the new plans a name of their own: --as {name}2."
        )
    raw = nnunet_folder(RAW) / planned.name
    with only_planning(planned.folder, name):
        _copy(raw / "dataset.json", planned.folder)
        if (raw / _SPLITS).is_file() and not (planned.folder / _SPLITS).is_file():
            _copy(raw / _SPLITS, planned.folder)
        write_json(path, planned.plans)
    return planned


def _copy(file: Path, folder: Path) -> None:
    with replacing(folder / file.name) as aside:
        shutil.copyfile(file, aside)


def require_network(planned: PlannedDataset, configuration: str, network: Network | None, context: bool) -> None:
    """Refuse plans whose configuration lacks the network or the context block that was asked for."""
    found, name = planned.configuration(configuration)["architecture"], planned.plans["plans_name"]
    if network is not None and network_of(found) != network:
        raise SettingsError(
            f"--architecture {network.name} was asked for, and {configuration} of {name} of {planned.name} has another "
            f"network: {describe_network(found)}. Leave -p out, which makes plans with {network.title} where there are "
            "none; or leave --architecture out, which takes these."
        )
    if context and not has_context(found):
        raise SettingsError(
            f"--context-block was asked for, and {configuration} of {name} of {planned.name} has none: "
            f"{describe_network(found)}. Leave -p out, which makes plans with a context block where there are none; or "
            "leave --context-block out, which takes these."
        )


_SPLITS = "splits_final.json"


def _require_ours(before: Mapping[str, Any], planner: Planner, path: Path) -> None:
    if (network_in(before), context_in(before)) != (planner.network, planner.context):
        raise SettingsError(
            f"{path} exists, made by {before['experiment_planner_used']} with another network than {planner}. Choose "
            "another name with --as."
        )
