"""`settings` and `preview`, run in this process on the phantom dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders
from training import DATASET

from nnunet_volf.cli import main


def plans_file(folders: NnUNetFolders, name: str) -> Path:
    return folders.preprocessed / DATASET / f"{name}.json"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_settings_shows_the_defaults_and_the_training_command(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plans_file(phantoms, "nnUNetPlans").read_bytes()
    assert main(["settings", "901"]) == 0
    out = capsys.readouterr().out
    assert '  scheme                 "grid"' in out
    assert "next: nnUNetv2_train 901 3d_fullres 0 -p nnUNetPlans -tr nnUNetTrainerVolF" in out
    assert plans_file(phantoms, "nnUNetPlans").read_bytes() == before
    assert not plans_file(phantoms, "VolFPlans").exists()


def test_settings_writes_a_plan_of_our_own_and_leaves_the_original(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plans_file(phantoms, "nnUNetPlans").read_bytes()
    assert main(["settings", "901", "--set", "epochs=7", "scheme=boxes", "--preset", "default"]) == 0
    assert "* epochs                 7" in capsys.readouterr().out
    written = read(plans_file(phantoms, "VolFPlans"))
    assert written["plans_name"] == "VolFPlans"
    assert written["configurations"]["3d_fullres"]["volf"] == {
        "epochs": 7, "scheme": "boxes", "preset": "default",
    }  # fmt: skip
    assert plans_file(phantoms, "nnUNetPlans").read_bytes() == before


def test_settings_changes_add_up_and_null_takes_one_back(phantoms: NnUNetFolders) -> None:
    for change in (["epochs=7", "flip=0.1"], ["flip=null", "gamma=[0.9,1.1]"]):
        assert main(["settings", "901", "--set", *change]) == 0
    written = read(plans_file(phantoms, "VolFPlans"))["configurations"]["3d_fullres"]["volf"]
    assert written == {"epochs": 7, "gamma": [0.9, 1.1]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["settings", "901", "--set", "epoch=3"], "There is no setting 'epoch'. Did you mean 'epochs'?"),
        (["settings", "901", "--set", "epochs"], "'epochs' is not of the form name=value"),
        (["settings", "901", "--set", "foreground_ratio=0.9"], "set it to 0.72 or less"),
        (["settings", "5"], "Dataset 5 is not there."),
        (["settings", "901", "-p", "Other"], "Other.json does not exist. Plans of this dataset: nnUNetPlans"),
        (["settings", "901", "-c", "4d"], "has no configuration '4d'. It has: 2d, 3d_fullres"),
        (["settings", "901", "--preset", "reference-2025"], "leave 1 whole block(s) in a patch of (16, 24, 20)"),
        (["preview", "901", "--samples", "0"], "at least 1 fusion can be drawn"),
        (["preview", "901", "--set", "coefficients=40"], "coefficients is 40"),
    ],
)
def test_mistakes_are_answered_with_one_message(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("nnunet-volf: ")
    assert message in error


def test_settings_refused_leave_no_file(phantoms: NnUNetFolders) -> None:
    assert main(["settings", "901", "--set", "foreground_ratio=0.9"]) == 2
    assert not plans_file(phantoms, "VolFPlans").exists(), "what no training would take must not be written"


def test_a_plans_file_of_other_origin_is_not_overwritten(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = read(plans_file(phantoms, "nnUNetPlans"))
    foreign["configurations"]["3d_fullres"]["batch_size"] = 99
    plans_file(phantoms, "VolFPlans").write_text(json.dumps(foreign))
    assert main(["settings", "901", "--set", "epochs=1"]) == 2
    assert "exists and is not a copy of nnUNetPlans" in capsys.readouterr().err


def test_a_missing_nnunet_folder_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    assert main(["preview", "901"]) == 2
    assert "nnUNet_preprocessed is not set" in capsys.readouterr().err


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_preview_draws_a_picture_and_tells_the_class_shares(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str], configuration: str
) -> None:
    picture = tmp_path / "fusions.png"
    arguments = ["preview", "901", "-c", configuration, "--seed", "3", "--samples", "2", "-o", str(picture)]
    assert main(arguments) == 0
    first = picture.read_bytes()
    assert first.startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "background is the largest class in" in out
    assert f"next: nnUNetv2_train 901 {configuration} 0" in out

    assert main(arguments) == 0
    assert picture.read_bytes() == first, "the same seed shows the same fusions"
    assert main([*arguments[:5], "4", *arguments[6:]]) == 0
    assert picture.read_bytes() != first


def test_preview_of_other_settings_saves_nothing_and_says_how_to_keep_them(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["preview", "901", "--scheme", "shuffle", "--set", "flip=0", "-o", str(tmp_path / "a.png")]
    assert main(arguments) == 0
    assert "next: nnunet-volf settings 901 -p nnUNetPlans -c 3d_fullres --set flip=0 scheme=shuffle" in (
        capsys.readouterr().out
    )
    assert not plans_file(phantoms, "VolFPlans").exists()


def test_preview_without_preprocessed_cases_says_which_command_makes_them(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres").iterdir():
        file.unlink()
    assert main(["preview", "901"]) == 2
    assert "Preprocess first: nnUNetv2_preprocess -d 901" in capsys.readouterr().err
