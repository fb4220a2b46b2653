"""What plans, descriptions and our own notes have to look like, and what is said where they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders
from unlabeled import import_scans, write_scans
from weight_files import described, plans_of, write_planned

from nnunet_volf.described import channel_names, read_dataset_json, read_plans_json
from nnunet_volf.errors import DataError, WeightsError
from nnunet_volf.plans import planned_dataset
from nnunet_volf.preprocessing.journal import Journal
from nnunet_volf.preprocessing.journal_rules import is_sound
from nnunet_volf.preprocessing.preprocess_case import preprocess_case
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.weights.target import task_of_dataset


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_plans_as_nnunet_writes_them_are_read(tmp_path: Path) -> None:
    plans = plans_of()
    assert read_plans_json(written(tmp_path / "plans.json", plans)) == plans


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": [1, 1, 0]}, r"3d_fullres.spacing\[2\] is 0, which is not a finite number of 1e-09 or more"),
        ({"spacing": [1, 1, float("nan")]}, r"3d_fullres.spacing\[2\] is NaN"),
        ({"spacing": "1 1 1"}, '3d_fullres.spacing is "1 1 1", which is not a list'),
        ({"patch_size": [16]}, r"3d_fullres.patch_size is \[16\], which is not a list of 2 or 3"),
        ({"patch_size": [16, 16, True]}, r"patch_size\[2\] is true, which is not a whole number of 1 or more"),
        ({"batch_size": 2.5}, "batch_size is 2.5, which is not a whole number of 1 or more"),
        ({"use_mask_for_norm": ["no"]}, r'use_mask_for_norm\[0\] is "no", which is not true or false'),
        ({"architecture": {"arch_kwargs": []}}, "architecture.arch_kwargs is .*, which is not an object"),
        ({"architecture": None}, "architecture is null, which is not an object with entries in braces"),
    ],
)
def test_plans_that_are_none_are_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "plans.json", plans_of(**change))
    with pytest.raises(DataError, match=message) as raised:
        read_plans_json(path)
    assert str(raised.value).startswith(f"{path}: configurations.3d_fullres.")
    assert str(raised.value).endswith("Correct it, or plan the dataset again.")


@pytest.mark.parametrize("content", [None, [], "x", 1, {}, {"plans_name": "x"}])
def test_other_documents_are_no_plans(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match="Correct it, or plan the dataset again"):
        read_plans_json(written(tmp_path / "plans.json", content))


def test_a_dataset_numbers_its_channels_from_0_on(tmp_path: Path) -> None:
    path = written(tmp_path / "dataset.json", {"channel_names": {"1": "T2", "0": "T1"}})
    assert channel_names(path, read_dataset_json(path)) == {"0": "T1", "1": "T2"}
    with pytest.raises(DataError, match=r"numbers its 1 channels 3\. Number them from 0 on, without gaps"):
        channel_names(path, {"channel_names": {"3": "T1"}})
    with pytest.raises(DataError, match="has no 'channel_names'"):
        channel_names(path, {})


def test_a_plan_that_names_what_nnunet_has_not_is_refused_once_a_case() -> None:
    for change in ({"preprocessor_name": "os.system"}, {"resampling_fn_data": "system"}):
        with pytest.raises(Refused) as raised:
            preprocess_case([], json.dumps(plans_of(**change)), "3d_fullres")
        assert raised.value.kind == "plan"


def test_what_preprocessing_needs_of_plans_is_asked_for(nnunet_folders: NnUNetFolders) -> None:
    write_planned(nnunet_folders.preprocessed)
    with pytest.raises(DataError, match="nnUNetPlans of Dataset007_Liver has no 'resampling_fn_data' for 3d_fullres"):
        planned_dataset("7").require("3d_fullres", ["patch_size", "resampling_fn_data"])


def test_plans_of_no_network_are_told(nnunet_folders: NnUNetFolders) -> None:
    write_planned(nnunet_folders.preprocessed, features=(4, 6, 8), strides=[[1, 1, 1]])
    with pytest.raises(WeightsError, match="The plans nnUNetPlans for Dataset007_Liver describe no network"):
        task_of_dataset("7", "nnUNetPlans", "3d_fullres")
    write_planned(nnunet_folders.preprocessed)
    description = {**described(["MRI"], ["organ"]), "labels": {"organ": 1}}
    written(nnunet_folders.preprocessed / "Dataset007_Liver" / "dataset.json", description)
    with pytest.raises(WeightsError, match="describe no network for its channels and labels"):
        task_of_dataset("7", "nnUNetPlans", "3d_fullres")


def test_a_result_that_was_damaged_in_the_journal_is_not_held(tmp_path: Path, nnunet_folders: NnUNetFolders) -> None:
    write_scans(tmp_path / "scans", 2, (16, 18, 17))
    import_scans(tmp_path / "scans")
    path = nnunet_folders.raw / "Dataset501_Archive" / "import" / "journal.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first.replace(b'"shape": [', b'"shape": ["x", ') + second)
    with Journal(path, is_sound) as journal:
        assert list(journal) == [json.loads(second)["key"]]
    import_scans(tmp_path / "scans")
    with Journal(path, is_sound) as journal:
        assert len(list(journal)) == 2
