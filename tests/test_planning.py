"""Plans for archives: another dataset's to the last number, or nnU-Net's own planners without a label."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders
from training import DATASET
from unlabeled import NAME, import_scans, write_scans

from nnunet_volf.cli import main
from nnunet_volf.plans import TARGET_KEY
from nnunet_volf.preprocessing.imported import imported_dataset
from nnunet_volf.preprocessing.planning import plan_like

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def archive(phantoms: NnUNetFolders, tmp_path: Path) -> NnUNetFolders:
    """The labelled phantoms are dataset 901; the unlabeled archive is dataset 501."""
    write_scans(tmp_path / "scans", 5)
    import_scans(tmp_path / "scans", "--channels", "phantom0")
    return phantoms


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def plans_of(folders: NnUNetFolders, name: str = "VolFPlans", dataset: str = NAME) -> dict[str, Any]:
    plans: dict[str, Any] = read(folders.preprocessed / dataset / f"{name}.json")
    return plans


def test_a_plan_for_a_target_is_the_targets_but_for_names(archive: NnUNetFolders, capsys: Capture) -> None:
    assert main(["plan", "-d", "501", "--for", "901"]) == 0
    target, planned = plans_of(archive, "nnUNetPlans", DATASET), plans_of(archive)
    expected = copy.deepcopy(target)
    expected.update(dataset_name=NAME, plans_name="VolFPlans")
    expected[TARGET_KEY] = {"dataset_name": DATASET, "plans_name": "nnUNetPlans"}
    for name in ("2d", "3d_fullres"):
        expected["configurations"][name]["data_identifier"] = f"VolFPlans_{name}"
    expected["configurations"]["3d_fullres"]["volf"] = {}
    assert planned == expected
    out = capsys.readouterr().out
    assert f"{NAME}, 3d_fullres, VolFPlans: like {DATASET}, nnUNetPlans" in out
    assert "next: nnunet-volf preprocess -d 501 -p VolFPlans -c 3d_fullres" in out


def test_everything_that_training_needs_is_written_and_names_no_file(archive: NnUNetFolders, tmp_path: Path) -> None:
    assert main(["plan", "-d", "501", "--for", "901"]) == 0
    folder = archive.preprocessed / NAME
    assert read(folder / "dataset.json") == {
        "channel_names": {"0": "phantom0"},
        "labels": {"background": 0},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    fingerprint = read(folder / "dataset_fingerprint.json")
    assert len(fingerprint["spacings"]) == len(fingerprint["shapes_after_crop"]) == 5
    for path in folder.glob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8"), "checkpoints take these files along"


def test_a_data_identifier_that_is_missing_or_of_another_name_becomes_ours(archive: NnUNetFolders) -> None:
    from nnunet_volf.plans import PlannedDataset

    plans = {
        "plans_name": "Mine",
        "configurations": {
            "a": {"data_identifier": "Mine_a"},
            "b": {"data_identifier": "shared_b"},
            "c": {},
            "d": {"inherits_from": "a"},
        },
    }
    made = plan_like(PlannedDataset(DATASET, Path(), plans), imported_dataset("501"), "VolFPlans")
    identifiers = {name: c.get("data_identifier") for name, c in made["configurations"].items()}
    assert identifiers == {"a": "VolFPlans_a", "b": "VolFPlans_shared_b", "c": "VolFPlans_c", "d": None}
    assert plans["configurations"]["a"] == {"data_identifier": "Mine_a"}, "the target's own must not change"


def test_planning_again_keeps_the_settings(archive: NnUNetFolders) -> None:
    assert main(["plan", "-d", "501", "--for", "901", "--set", "epochs=3", "flip=0.1"]) == 0
    assert main(["plan", "-d", "501", "--for", "901", "--set", "flip=null", "iterations=5"]) == 0
    assert plans_of(archive)["configurations"]["3d_fullres"]["volf"] == {"epochs": 3, "iterations": 5}


def test_an_archive_that_was_imported_without_its_target_is_compared_with_it(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: Capture
) -> None:
    scans = tmp_path / "scans"
    write_scans(scans, 3)
    for number in (0, 3):
        image = phantoms.raw / DATASET / "imagesTr" / f"case_{number:03d}_0000.nii.gz"
        shutil.copy(image, scans / f"copy_{number}.nii.gz")
    import_scans(scans, "--channels", "phantom0")
    leak = "2 of 5 cases occur in dataset 901, and would be seen before it is tested on; import again with --for 901"
    for _ in range(2):  # the second time from the journal
        assert main(["plan", "-d", "501", "--for", "901", "-np", "0"]) == 0
        assert f"warning: {leak} to leave them out" in capsys.readouterr().out
    (phantoms.raw / DATASET / "imagesTr" / "case_005_0000.nii.gz").write_bytes(b"no image")
    import_scans(scans, "--for", "901")
    capsys.readouterr()
    assert main(["plan", "-d", "501", "--for", "901", "-np", "0"]) == 0
    out = capsys.readouterr().out
    assert "occur in dataset" not in out
    assert "warning: 1 images of dataset 901 cannot be read, so whether they occur here is not known" in out
    shutil.rmtree(phantoms.raw / DATASET)
    assert main(["plan", "-d", "501", "--for", "901", "-np", "0"]) == 0
    assert "warning: the images of dataset 901 are not in nnUNet_raw" in capsys.readouterr().out


def test_a_plan_that_was_trained_with_is_not_replaced(archive: NnUNetFolders, capsys: Capture) -> None:
    assert main(["plan", "-d", "501", "--for", "901"]) == 0
    fold = archive.results / NAME / "nnUNetTrainerVolF__VolFPlans__3d_fullres" / "fold_all"
    fold.mkdir(parents=True)
    (fold / "checkpoint_latest.pth").touch()
    before = plans_of(archive)
    assert main(["plan", "-d", "501", "-np", "0"]) == 2
    assert f"{NAME} was trained with VolFPlans, which was made like {DATASET}, nnUNetPlans" in capsys.readouterr().err
    assert plans_of(archive) == before
    assert main(["plan", "-d", "501", "-np", "0", "--as", "VolFPlans2"]) == 0
    assert main(["plan", "-d", "501", "--for", "901", "--set", "epochs=9"]) == 0, "settings may change"


def test_another_number_of_channels_is_refused(phantoms: NnUNetFolders, tmp_path: Path, capsys: Capture) -> None:
    write_scans(tmp_path / "scans", 2, channels=2)
    import_scans(tmp_path / "scans", "--channels", "A=*_t0.nii.gz", "B=*_t1.nii.gz")
    assert main(["plan", "-d", "501", "--for", "901"]) == 2
    error = capsys.readouterr().err
    assert "Dataset501_Archive has 2 channels (A, B) and Dataset901_Phantom has 1 (phantom0)" in error
    assert not (phantoms.preprocessed / NAME / "VolFPlans.json").exists()


def test_another_name_of_a_channel_is_a_warning(phantoms: NnUNetFolders, tmp_path: Path, capsys: Capture) -> None:
    write_scans(tmp_path / "scans", 2)
    import_scans(tmp_path / "scans", "--channels", "T2")
    assert main(["plan", "-d", "501", "--for", "901"]) == 0
    assert "warning: channel 0 is T2 here and phantom0 in Dataset901_Phantom" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("planner", "network"), [("ExperimentPlanner", "PlainConvUNet"), ("nnUNetPlannerResEncM", "ResidualEncoderUNet")]
)
def test_without_a_target_nnunets_planners_plan_from_tissue(
    archive: NnUNetFolders, capsys: Capture, planner: str, network: str
) -> None:
    assert main(["plan", "-d", "501", "-pl", planner, "-np", "0", "--set", "epochs=2"]) == 0
    out = capsys.readouterr().out
    assert f"by {planner}, from tissue in 5 of 5 cases" in out
    assert "2D U-Net configuration" not in out, "nnU-Net's pages of output are for its own log"
    planned = plans_of(archive)
    assert planned[TARGET_KEY] is None
    configuration = planned["configurations"]["3d_fullres"]
    assert configuration["architecture"]["network_class_name"].endswith(network)
    assert configuration["spacing"] == [1.0, 1.0, 1.0]
    assert configuration["volf"] == {"epochs": 2}
    assert planned["image_reader_writer"] == "SimpleITKIO"
    assert "dataset" not in read(archive.preprocessed / NAME / "dataset.json"), "paths stay in the raw dataset"


def test_the_spacing_may_be_chosen(archive: NnUNetFolders) -> None:
    assert main(["plan", "-d", "501", "-np", "0", "--spacing", "2", "1.5", "1.5"]) == 0
    assert plans_of(archive)["configurations"]["3d_fullres"]["spacing"] == [2.0, 1.5, 1.5]


def test_a_channel_named_ct_is_normalised_with_the_numbers_of_its_tissue(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    write_scans(tmp_path / "scans", 3)
    import_scans(tmp_path / "scans", "--channels", "CT")
    assert main(["plan", "-d", "501", "-np", "0"]) == 0
    planned = plans_of(phantoms)
    assert planned["configurations"]["3d_fullres"]["normalization_schemes"] == ["CTNormalization"]
    statistics = planned["foreground_intensity_properties_per_channel"]["0"]
    assert 50 < statistics["percentile_00_5"] < statistics["median"] < statistics["percentile_99_5"] < 160


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "777"], "Dataset 777 is not there."),
        (["-d", "901"], "Dataset901_Phantom was not imported by nnunet-volf"),
        (["-d", "501", "--for", "901", "-c", "4d"], "has no configuration '4d'"),
        (["-d", "501", "--for", "901", "-p", "Other"], "Other.json does not exist. Plans of this dataset: nnUNetPlans"),
        (["-d", "501", "--for", "901", "--set", "epoch=3"], "There is no setting 'epoch'"),
        (["-d", "501", "-pl", "Planner"], "nnU-Net has no planner 'Planner'"),
    ],
)
def test_mistakes_are_answered_with_one_message(
    archive: NnUNetFolders, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(["plan", "-np", "0", *arguments]) == 2
    assert message in capsys.readouterr().err
