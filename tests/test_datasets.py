"""Datasets are found by number or name, and what is said when they are not helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import NnUNetFolders

from nnunet_volf.datasets import (
    MANIFEST,
    PREPROCESSED,
    RAW,
    all_dataset_names,
    find_dataset,
    is_imported,
    nnunet_folder,
    plan_command,
    preprocess_command,
)
from nnunet_volf.errors import DataError
from nnunet_volf.plans import planned_dataset


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir()


def make_imported(root: Path, name: str) -> None:
    manifest = root / name / MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.touch()


@pytest.mark.parametrize("dataset", ["4", "004", "Dataset004_Hippocampus"])
def test_a_dataset_is_found_by_number_or_name(nnunet_folders: NnUNetFolders, dataset: str) -> None:
    make(nnunet_folders.raw, "Dataset004_Hippocampus", "Dataset040_Other", "Datasets_old", "Dataset4_Not")
    assert find_dataset(dataset, RAW) == nnunet_folders.raw / "Dataset004_Hippocampus"


def test_what_is_there_is_named_when_a_dataset_is_not(nnunet_folders: NnUNetFolders) -> None:
    make(nnunet_folders.raw, "Dataset004_Hippocampus", "Datasets_old")
    with pytest.raises(DataError, match=r"Dataset 5 is not there. .* holds: Dataset004_Hippocampus.$"):
        find_dataset("5", RAW)
    make(nnunet_folders.raw, "Dataset004_Heart")
    with pytest.raises(DataError, match="could be any of Dataset004_Heart, Dataset004_Hippocampus"):
        find_dataset("4", RAW)


@pytest.mark.parametrize("dataset", ["501", "Dataset501_Archive"])
def test_an_archive_that_is_not_planned_is_told_how(nnunet_folders: NnUNetFolders, dataset: str) -> None:
    make_imported(nnunet_folders.raw, "Dataset501_Archive")
    with pytest.raises(DataError, match="Dataset501_Archive is not planned yet: nnunet-volf plan -d 501"):
        planned_dataset(dataset)


def test_a_labelled_dataset_that_is_not_planned_is_told_nnunets_command(nnunet_folders: NnUNetFolders) -> None:
    make(nnunet_folders.raw, "Dataset004_Hippocampus")
    with pytest.raises(DataError, match="not planned yet: nnUNetv2_plan_and_preprocess -d 4"):
        planned_dataset("4")


def test_plans_that_are_missing_are_made_by_the_command_that_fits(nnunet_folders: NnUNetFolders) -> None:
    make(nnunet_folders.preprocessed, "Dataset501_Archive")
    with pytest.raises(DataError, match="or plan first: nnUNetv2_plan_and_preprocess -d 501"):
        planned_dataset("501", "VolFPlans")
    make_imported(nnunet_folders.raw, "Dataset501_Archive")
    with pytest.raises(DataError, match="or plan first: nnunet-volf plan -d 501"):
        planned_dataset("501", "VolFPlans")


def test_commands_fit_what_a_dataset_is(nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    make_imported(nnunet_folders.raw, "Dataset501_Archive")
    make(nnunet_folders.raw, "Dataset004_Hippocampus")
    assert is_imported("Dataset501_Archive")
    assert not is_imported("Dataset004_Hippocampus")
    assert plan_command("Dataset004_Hippocampus") == "nnUNetv2_plan_and_preprocess -d 4"
    assert preprocess_command("Dataset501_Archive", "P") == "nnunet-volf preprocess -d 501 -p P"
    assert preprocess_command("Dataset004_Hippocampus", "P") == "nnUNetv2_preprocess -d 4 -plans_name P"
    monkeypatch.delenv(RAW)
    assert not is_imported("Dataset501_Archive")


@pytest.mark.parametrize("value", [None, "/nowhere/at/all"])
def test_a_folder_that_is_not_set_or_not_there_is_refused(
    value: str | None, nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(PREPROCESSED)
    else:
        monkeypatch.setenv(PREPROCESSED, value)
    with pytest.raises(DataError, match=f"nnUNet_preprocessed is {value or 'not set'}, which is no folder"):
        nnunet_folder(PREPROCESSED)


def test_names_are_taken_from_all_three_folders(nnunet_folders: NnUNetFolders) -> None:
    make(nnunet_folders.raw, "Dataset001_A", "DatasetX")
    make(nnunet_folders.preprocessed, "Dataset001_A", "Dataset002_B")
    make(nnunet_folders.results, "Dataset003_C")
    nnunet_folders.results.joinpath("Dataset009_File").touch()
    assert all_dataset_names() == ["Dataset001_A", "Dataset002_B", "Dataset003_C"]
