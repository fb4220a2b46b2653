"""``nnunet-volf weights plan``: the plan follows the weights, and the same preprocessed data serves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import NnUNetFolders
from weight_files import random_tensors, task_of, write_checkpoint, write_planned

from nnunet_volf.cli import main


def plan(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["weights", "plan", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def read(folders: NnUNetFolders, name: str) -> dict:
    return json.loads((folders.preprocessed / "Dataset007_Liver" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    """Weights of a network that has little in common with the plans of the dataset."""
    return write_checkpoint(
        tmp_path / "residual.pth", network="ResidualEncoderUNet", features=(4, 6, 8, 8), patch_size=[24, 24, 24]
    )


def test_a_plan_like_the_file_takes_all_of_it_and_keeps_the_preprocessed_data(
    nnunet_folders: NnUNetFolders, residual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, spacing=[2.0, 1.0, 1.0])
    before = read(nnunet_folders, "nnUNetPlans")
    code, said = plan(capsys, residual, "-d", 7, "--as", "Like")
    assert code == 0
    assert "fits: nnU-Net takes all of Dataset007_Liver's network but the heads from this file as it is" in said
    assert "warning: pretrained at 1 x 1 x 1 mm, the task is at 2 x 1 x 1 mm" in said
    assert said.splitlines()[-1].startswith("next: nnUNetv2_train 7 3d_fullres 0 -p Like ")
    made = read(nnunet_folders, "Like")["configurations"]["3d_fullres"]
    assert made["architecture"]["network_class_name"].endswith("ResidualEncoderUNet")
    assert made["patch_size"] == [24, 24, 24]
    for key in ("data_identifier", "spacing", "normalization_schemes", "batch_size"):
        assert made[key] == before["configurations"]["3d_fullres"][key]
    assert read(nnunet_folders, "nnUNetPlans") == before
    assert main(["weights", "check", str(residual), "-d", "7", "-p", "Like"]) == 0


def test_with_the_files_spacing_images_get_a_folder_of_their_own(
    nnunet_folders: NnUNetFolders, residual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, spacing=[2.0, 1.0, 1.0])
    code, said = plan(capsys, residual, "-d", 7, "--spacing")
    assert code == 0
    assert "warning" not in said
    assert "next: nnUNetv2_preprocess -d 7 -plans_name LikeWeights -c 3d_fullres" in said
    made = read(nnunet_folders, "LikeWeights")["configurations"]["3d_fullres"]
    assert (made["spacing"], made["data_identifier"]) == ([1.0, 1.0, 1.0], "LikeWeights_3d_fullres")


def test_other_channels_still_have_to_be_adapted(
    nnunet_folders: NnUNetFolders, residual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, channels=("T1", "T2"))
    _, said = plan(capsys, residual, "-d", 7)
    assert "fits after adapting: 100.0%" in said
    assert said.splitlines()[-1].startswith("next: nnunet-volf weights adapt ")


def test_what_a_configuration_inherits_comes_along(
    nnunet_folders: NnUNetFolders, residual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    path = nnunet_folders.preprocessed / "Dataset007_Liver" / "nnUNetPlans.json"
    inheriting = read(nnunet_folders, "nnUNetPlans")
    inheriting["configurations"]["3d_large"] = {"inherits_from": "3d_fullres", "batch_size": 7}
    path.write_text(json.dumps(inheriting), encoding="utf-8")
    code, _ = plan(capsys, residual, "-d", 7, "-c", "3d_large")
    assert code == 0
    made = read(nnunet_folders, "LikeWeights")["configurations"]
    assert list(made) == ["3d_large"]
    assert (made["3d_large"]["batch_size"], made["3d_large"]["spacing"]) == (7, [1.0, 1.0, 1.0])


def test_plans_that_are_there_are_left_alone(
    nnunet_folders: NnUNetFolders, residual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = plan(capsys, residual, "-d", 7, "--as", "nnUNetPlans")
    assert code == 2
    assert "nnUNetPlans.json exists and says something else. Choose another name with --as." in said
    assert plan(capsys, residual, "-d", 7)[0] == plan(capsys, residual, "-d", 7)[0] == 0


def test_a_network_of_another_dimension_is_refused(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = plan(capsys, write_checkpoint(tmp_path / "flat.pth", dimensions=2), "-d", 7)
    assert code == 2
    assert "holds a network for 2D and 3d_fullres of Dataset007_Liver is 3D" in said


def test_tensors_alone_do_not_say_which_network_they_are(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    torch.save(random_tensors(task_of()), tmp_path / "bare.pth")
    code, said = plan(capsys, tmp_path / "bare.pth", "-d", 7)
    assert code == 2
    assert "does not say which network its tensors belong to" in said
