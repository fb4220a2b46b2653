"""A plan for an archive: another dataset's, carried over completely, or one of its own made without labels."""

from __future__ import annotations

import contextlib
import copy
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_volf.errors import DataError, SettingsError
from nnunet_volf.files import write_json
from nnunet_volf.plans import TARGET_KEY, PlannedDataset, read_plans, with_settings, without_settings
from nnunet_volf.settings import PLANS_KEY

from .fingerprint import Fingerprint
from .imported import ImportedDataset
from .outputs import describe_dataset


def preprocessed_folder(dataset: ImportedDataset) -> Path:
    """Return the dataset's folder for preprocessed data, made if need be."""
    root = os.environ.get("nnUNet_preprocessed")
    if not root:
        raise DataError("nnUNet_preprocessed is not set. Set it to where nnU-Net keeps preprocessed data.")
    folder = Path(root) / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
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


def require_planner(before: Mapping[str, Any], planner: str) -> None:
    """Refuse to take plans that were trained with for plans of a planner that did not make them."""
    if before.get(TARGET_KEY) is not None or before["experiment_planner_used"] != planner:
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
        return f"by {plans['experiment_planner_used']}"
    return f"like {target['dataset_name']}, {target['plans_name']}"


def find_planner(name: str) -> Any:
    """Return one of nnU-Net's planner classes."""
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = Path(nnunetv2.__path__[0]) / "experiment_planning"
    planner_class = recursive_find_python_class(str(folder), name, "nnunetv2.experiment_planning")
    if planner_class is None:
        raise SettingsError(
            f"nnU-Net has no planner {name!r}. Its presets are ExperimentPlanner, nnUNetPlannerResEncM, "
            "nnUNetPlannerResEncL and nnUNetPlannerResEncXL."
        )
    return planner_class


def plan_own(
    dataset: ImportedDataset, fingerprint: Fingerprint, plans_name: str, planner: str, spacing: list[float] | None
) -> dict[str, Any]:
    """Return plans made by one of nnU-Net's planners from a fingerprint that needed no labels."""
    planner_class = find_planner(planner)
    write_json(preprocessed_folder(dataset) / "dataset_fingerprint.json", fingerprint.to_mapping())
    with contextlib.redirect_stdout(io.StringIO()), _some_threads():  # pages of output
        made = planner_class(dataset.name, plans_name=plans_name, overwrite_target_spacing=spacing)
        plans: dict[str, Any] = made.plan_experiment()
    return {**plans, TARGET_KEY: None}


@contextlib.contextmanager
def _some_threads() -> Iterator[None]:
    """Let nnU-Net's planner set torch's threads to the number of loader workers, which may be 0 for training."""
    name = "nnUNet_n_proc_DA"
    before = os.environ.get(name)
    if before == "0":
        os.environ[name] = "1"
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before


def write_plans(
    dataset: ImportedDataset,
    plans: dict[str, Any],
    configuration: str,
    changes: Mapping[str, Any],
    fingerprint: Fingerprint,
) -> PlannedDataset:
    """Write all that training needs beside the voxels: plans with our settings, dataset.json, fingerprint.

    The description of the dataset holds no paths of the archive here: nnU-Net copies it into every checkpoint.
    """
    folder = preprocessed_folder(dataset)
    path = folder / f"{plans['plans_name']}.json"
    if path.is_file():
        plans = _keep_settings(plans, read_plans(folder, plans["plans_name"]))
    made = PlannedDataset(dataset.name, folder, plans)
    made.configuration(configuration)
    planned = with_settings(made, configuration, changes)

    write_json(folder / "dataset.json", describe_dataset(dataset.channel_names, len(dataset.cases)))
    write_json(folder / "dataset_fingerprint.json", fingerprint.to_mapping())
    write_json(path, planned.plans)
    return planned


def _keep_settings(plans: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return new plans with the settings that an earlier file of this name had."""
    for name, configuration in plans["configurations"].items():
        settings = before["configurations"].get(name, {}).get(PLANS_KEY)
        if settings and PLANS_KEY not in configuration:
            configuration[PLANS_KEY] = settings
    return plans
