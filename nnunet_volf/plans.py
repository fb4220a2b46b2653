"""Plans files: find a dataset's, read our settings from one, write them into one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_volf.datasets import PREPROCESSED, RAW, dataset_number, find_dataset, plan_command
from nnunet_volf.described import channel_names, read_dataset_json, read_plans_json
from nnunet_volf.errors import DataError, SettingsError
from nnunet_volf.files import write_json
from nnunet_volf.finetune_settings import FINE_TUNE_KEY
from nnunet_volf.pretext.catalogue import DEFAULT_METHOD, METHODS, Method, load_pretext, load_settings, method_of
from nnunet_volf.pretext.given import Given, given_by
from nnunet_volf.pretext.settings import PretrainingSettings
from nnunet_volf.setting_rules import Kind, Settings

if TYPE_CHECKING:  # imports torch, which commands that only read do without
    from nnunet_volf.pretext.pretext import Pretext

DEFAULT_PLANS = "nnUNetPlans"
OUR_PLANS = "VolFPlans"

# Where a configuration holds settings of ours.
SETTINGS_KEYS = (*(method.plans_key for method in METHODS.values()), FINE_TUNE_KEY)

# In plans that were carried over: the dataset and plans that the pretrained weights are for.
TARGET_KEY = "volf_target"


# What a pretext is given of a configuration.
_GIVEN = ("architecture", "patch_size", "spacing", "batch_size", "median_image_size_in_voxels")


@dataclass(frozen=True)
class PlannedDataset:
    """A preprocessed dataset with the plans in one of its files."""

    name: str
    folder: Path
    plans: dict[str, Any]

    @property
    def number(self) -> int:
        """Return 4 for ``Dataset004_Hippocampus``."""
        return dataset_number(self.name)

    def configuration(self, name: str) -> dict[str, Any]:
        """Return a configuration with what it inherits, or say which there are."""
        own = self.plans["configurations"].get(name)
        if own is None:
            raise DataError(
                f"{self.plans['plans_name']} of {self.name} has no configuration {name!r}. "
                f"It has: {', '.join(self.plans['configurations'])}."
            )
        merged, seen = dict(own), [name]
        while parent := self.plans["configurations"][seen[-1]].get("inherits_from"):
            if parent in seen or parent not in self.plans["configurations"]:
                raise DataError(
                    f"{self.plans['plans_name']} of {self.name} cannot be followed: its configuration {seen[-1]!r} "
                    f"inherits from {parent!r}, which "
                    f"{'inherits from that' if parent in seen else 'is not there'}. Plan the dataset again."
                )
            seen.append(parent)
            merged = {**self.plans["configurations"][parent], **merged}
        return merged

    def require(self, configuration: str, entries: Sequence[str], of_all: Sequence[str] = ()) -> dict[str, Any]:
        """Return a configuration that has these entries, in plans that have those of all configurations."""
        found = self.configuration(configuration)
        lacking = [name for name in entries if name not in found] + [name for name in of_all if name not in self.plans]
        if lacking:
            raise DataError(
                f"{self.plans['plans_name']} of {self.name} has no {lacking[0]!r} for {configuration}. Plan the "
                "dataset again, or bring back the file as nnU-Net wrote it."
            )
        return found

    def channel_names(self) -> dict[str, str]:
        """Return the names of the channels by number, from dataset.json, which planning copies from the raw dataset."""
        path = self.folder / "dataset.json"
        path = path if path.is_file() else find_dataset(self.name, RAW) / "dataset.json"
        return channel_names(path, read_dataset_json(path))

    def given(self, configuration: str) -> Given:
        """Return what a configuration and the dataset give to a pretext."""
        return given_by(self.require(configuration, _GIVEN), list(self.channel_names().values()), self.name)

    def settings(
        self, configuration: str, overrides: Mapping[str, Any] | None = None, method: Method = METHODS[DEFAULT_METHOD]
    ) -> PretrainingSettings:
        """Return the settings of a pretraining that are in force for a configuration."""
        return self.settings_of(load_settings(method), configuration, overrides)

    def pretext(
        self, configuration: str, overrides: Mapping[str, Any] | None = None, method: Method = METHODS[DEFAULT_METHOD]
    ) -> Pretext:
        """Return a pretext with the settings that are in force for a configuration, or refuse what cannot work."""
        return load_pretext(method)(self.settings(configuration, overrides, method), self.given(configuration))

    def settings_of(self, kind: type[Kind], configuration: str, overrides: Mapping[str, Any] | None = None) -> Kind:
        """Return the settings of a kind in force for a configuration; ``None`` takes one out, back to its default."""
        merged = {**self.configuration(configuration).get(kind.plans_key, {}), **(overrides or {})}
        return kind.from_mapping({name: value for name, value in merged.items() if value is not None})

    def methods(self, configuration: str) -> list[Method]:
        """Return the pretext tasks that a configuration holds settings of, or else the default one."""
        keys = self.configuration(configuration).keys()
        return [method for method in METHODS.values() if method.plans_key in keys] or [METHODS[DEFAULT_METHOD]]

    def pretrain_command(self, configuration: str, plans_name: str, method: Method = METHODS[DEFAULT_METHOD]) -> str:
        """Return the command that pretrains on this dataset; an archive without labels needs no folds."""
        fold = 0 if (self.folder / "gt_segmentations").is_dir() else "all"
        return f"nnUNetv2_train {self.number} {configuration} {fold} -p {plans_name} -tr {method.trainer}"


def planned_dataset(dataset: str, plans_name: str = DEFAULT_PLANS) -> PlannedDataset:
    """Find a preprocessed dataset by number or name and read its plans."""
    folder = find_dataset(dataset, PREPROCESSED)
    return PlannedDataset(folder.name, folder, read_plans(folder, plans_name))


def plans_in(folder: Path) -> list[str]:
    """Return the names of the plans of a preprocessed dataset."""
    return sorted(path.stem for path in folder.glob("*.json") if b"configurations" in path.read_bytes())


def read_plans(folder: Path, plans_name: str) -> dict[str, Any]:
    """Read a plans file of a preprocessed dataset."""
    path = folder / f"{plans_name}.json"
    if not path.is_file():
        there = plans_in(folder)
        raise DataError(
            f"{path} does not exist. Plans of this dataset: {', '.join(there) or 'none'}. "
            f"Name one with -p, or plan first: {plan_command(folder.name)}."
        )
    return read_plans_json(path)


def write_settings(
    dataset: PlannedDataset,
    configuration: str,
    changes: Mapping[str, Any],
    plans_name: str,
    kind: type[Settings],
) -> PlannedDataset:
    """Write settings into the plans file `plans_name` of a dataset and return it as it now is.

    A new file is a copy of the dataset's plans under another name: it uses the same preprocessed data. An existing one
    keeps its settings but for the changes; ``None`` takes a setting out, back to its default.
    """
    dataset.configuration(configuration)
    plans = dataset.plans
    path = dataset.folder / f"{plans_name}.json"
    if path.is_file():
        existing = read_plans(dataset.folder, plans_name)
        if without_settings(existing) != without_settings(plans):
            raise SettingsError(
                f"{path} exists and is not a copy of {plans['plans_name']}. Choose another name with --as, or start "
                f"from it with -p {plans_name}."
            )
        plans = existing
    named = PlannedDataset(dataset.name, dataset.folder, {**plans, "plans_name": plans_name})
    changed = with_settings(named, configuration, changes, kind)
    write_json(path, changed.plans)
    return changed


def with_settings(
    planned: PlannedDataset, configuration: str, changes: Mapping[str, Any], kind: type[Settings]
) -> PlannedDataset:
    """Return plans with some settings of a kind changed, or refuse settings that no training would take."""
    plans = copy.deepcopy(planned.plans)
    own = plans["configurations"][configuration]
    merged = {**own.get(kind.plans_key, {}), **changes}
    own[kind.plans_key] = {name: value for name, value in merged.items() if value is not None}
    changed = PlannedDataset(planned.name, planned.folder, plans)
    settings = changed.settings_of(kind, configuration)
    if isinstance(settings, PretrainingSettings):
        load_pretext(method_of(settings))(settings, changed.given(configuration))
    return changed


def without_settings(plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return plans without what is ours in them and without their name, for comparison."""
    configurations = {
        name: {key: value for key, value in configuration.items() if key not in SETTINGS_KEYS}
        for name, configuration in plans["configurations"].items()
    }
    return {**plans, "configurations": configurations, "plans_name": ""}
