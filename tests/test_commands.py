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


def test_each_pretext_has_settings_of_its_own_in_one_plans_file(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings", "901", "--set", "epochs=7"]) == 0
    assert main(["settings", "901", "-p", "VolFPlans", "--pretext", "mae", "--set", "epochs=9", "masked=0.5"]) == 0
    out = capsys.readouterr().out
    assert "* masked                 0.5" in out
    assert out.endswith("next: nnUNetv2_train 901 3d_fullres 0 -p VolFPlans -tr nnUNetTrainerMAE\n")
    written = read(plans_file(phantoms, "VolFPlans"))["configurations"]["3d_fullres"]
    assert (written["volf"], written["volf_mae"]) == ({"epochs": 7}, {"epochs": 9, "masked": 0.5})


@pytest.mark.parametrize("pretext", ["mae", "voco"])
def test_preview_draws_what_any_pretext_will_see(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str], pretext: str
) -> None:
    picture = tmp_path / "seen.png"
    trainer = {"mae": "nnUNetTrainerMAE", "voco": "nnUNetTrainerVoCo"}[pretext]
    assert main(["preview", "901", "--pretext", pretext, "--samples", "2", "-o", str(picture)]) == 0
    assert picture.stat().st_size > 5000
    assert capsys.readouterr().out.endswith(f"next: nnUNetv2_train 901 3d_fullres 0 -p nnUNetPlans -tr {trainer}\n")
    tried = ["preview", "901", "--pretext", pretext, "--set", "flip=0.1", "-o", str(picture)]
    assert main(tried) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        f"next: nnunet-volf settings 901 -p nnUNetPlans -c 3d_fullres --pretext {pretext} --set flip=0.1\n"
    )


def test_fine_tuning_settings_are_shown_with_the_command_that_uses_them(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings", "901", "--fine-tune"]) == 0
    out = capsys.readouterr().out
    assert "  warmup                 " in out
    assert "scheme" not in out
    assert out.endswith(
        "next: nnUNetv2_train 901 3d_fullres 0 -p nnUNetPlans -tr nnUNetTrainerVolFFineTune "
        "-pretrained_weights CHECKPOINT\n"
    )
    assert not plans_file(phantoms, "VolFPlans").exists()


def test_both_kinds_of_settings_live_in_one_plans_file_and_do_not_touch_each_other(phantoms: NnUNetFolders) -> None:
    before = plans_file(phantoms, "nnUNetPlans").read_bytes()
    assert main(["settings", "901", "--set", "epochs=7"]) == 0
    assert main(["settings", "901", "--fine-tune", "--set", "epochs=100", "warmup=0.1"]) == 0
    assert main(["settings", "901", "--fine-tune", "--set", "warmup=null", "--preset", "nnunet"]) == 0
    written = read(plans_file(phantoms, "VolFPlans"))["configurations"]["3d_fullres"]
    assert written["volf"] == {"epochs": 7}
    assert written["volf_finetune"] == {"epochs": 100, "preset": "nnunet"}
    assert plans_file(phantoms, "nnUNetPlans").read_bytes() == before


def test_fine_tuning_settings_can_be_given_a_plans_file_of_their_own(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings", "901", "--fine-tune", "-c", "2d", "--set", "optimizer=sgd", "--as", "Slow"]) == 0
    out = capsys.readouterr().out
    assert '* optimizer              "sgd"' in out
    assert "next: nnUNetv2_train 901 2d 0 -p Slow -tr nnUNetTrainerVolFFineTune" in out
    assert not plans_file(phantoms, "VolFPlans").exists()


def test_fine_tuning_takes_patches_on_which_no_fusion_could_be_learnt(phantoms: NnUNetFolders) -> None:
    assert main(["settings", "901", "--preset", "reference-2025"]) == 2, "refused for pretraining"
    assert main(["settings", "901", "--fine-tune", "--preset", "nnunet"]) == 0


def test_an_archive_without_labels_has_no_fine_tuning_settings(
    phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    (phantoms.raw / DATASET / "import").mkdir()
    (phantoms.raw / DATASET / "import" / "manifest.jsonl").touch()
    assert main(["settings", "901", "--fine-tune", "--set", "epochs=3"]) == 2
    assert "was imported without labels, and fine-tuning needs them" in capsys.readouterr().err
    assert not plans_file(phantoms, "VolFPlans").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["settings", "901", "--preset", "nnunet"], "preset is 'nnunet'. Known: default, reference-2025, "),
        (["settings", "901", "--fine-tune", "--preset", "nnunetv2"], "Did you mean 'nnunet'?"),
        (["settings", "901", "--fine-tune", "--set", "warmup=2"], "warmup is 2; it must be a number between 0 and 0.9"),
        (["settings", "901", "--fine-tune", "--set", "scheme=grid"], "There is no setting 'scheme'."),
        (["settings", "901", "--set", "epoch=3"], "There is no setting 'epoch'. Did you mean 'epochs'?"),
        (["settings", "901", "--set", "epochs"], "'epochs' is not of the form name=value"),
        (["settings", "901", "--set", "turned=false", "foreground_ratio=0.9"], "set it to 0.72 or less"),
        (["settings", "5"], "Dataset 5 is not there."),
        (["settings", "901", "-p", "Other"], "Other.json does not exist. Plans of this dataset: nnUNetPlans"),
        (["settings", "901", "-c", "4d"], "has no configuration '4d'. It has: 2d, 3d_fullres"),
        (["settings", "901", "--preset", "reference-2025"], "leave 1 whole block(s) in a patch of (16, 24, 20)"),
        (["preview", "901", "--samples", "0"], "at least 1 sample can be drawn"),
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
    assert main(["settings", "901", "--set", "turned=false", "foreground_ratio=0.9"]) == 2
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
