"""``nnunet-volf weights check`` as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import NnUNetFolders
from weight_files import write_checkpoint, write_planned

from nnunet_volf.cli import main


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["weights", "check", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_a_file_that_fits_ends_with_0_and_the_training(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    file = write_checkpoint(tmp_path / "w.pth")
    code, said = check(capsys, file, "-d", 7)
    assert code == 0
    assert said.splitlines()[:4] == [
        "w.pth: nnU-Net, nnUNetTrainer",
        "trained on Dataset007_Liver, 3d_fullres, 5 epochs",
        "prepared as MRI; ZScoreNormalization; 1 x 1 x 1 mm; patch 16 x 16 x 16",
        "for Dataset007_Liver, nnUNetPlans, 3d_fullres",
    ]
    assert "warning" not in said
    assert said.splitlines()[-1].startswith("next: nnUNetv2_train 7 3d_fullres 0 -p nnUNetPlans -tr")


def test_a_file_for_other_channels_ends_with_3_and_adapt(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, channels=("T1", "T2"), spacing=[3.0, 1.0, 1.0])
    code, said = check(capsys, write_checkpoint(tmp_path / "w.pth"), "-d", 7)
    assert code == 3
    assert "warning: pretrained on MRI, the task has T1, T2" in said
    assert "warning: pretrained at 1 x 1 x 1 mm, the task is at 3 x 1 x 1 mm" in said
    assert "fits after adapting: 100.0% of the network is taken over" in said
    assert said.splitlines()[-1].startswith(f"next: nnunet-volf weights adapt {tmp_path / 'w.pth'} -d 7 -p nnUNetPlans")


def test_a_file_that_another_plan_takes_ends_with_4_and_names_that_plan(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, features=(16, 18, 20))
    write_planned(nnunet_folders.preprocessed, plans_name="Small")
    code, said = check(capsys, write_checkpoint(tmp_path / "w.pth"), "-d", 7)
    assert code == 4
    assert "does not fit: nothing of this file can be taken over" in said
    assert "it fits as it is with -p Small: nnUNetv2_train 7 3d_fullres 0 -p Small" in said
    assert said.splitlines()[-1] == "next: nnunet-volf pretrain FOLDER --for 7 -p nnUNetPlans -c 3d_fullres"


def test_every_tensor_is_listed_when_asked(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, features=(4, 6, 8, 8))
    code, said = check(capsys, write_checkpoint(tmp_path / "w.pth"), "-d", 7, "-v")
    assert code == 3
    line = next(line for line in said.splitlines() if line.startswith("encoder.stages.3.0.convs.0.conv.weight"))
    assert line.split("  ")[-1] == "not in the file"
    assert "8 x 8 x 3 x 3 x 3  missing" in line


def test_what_the_network_has_no_place_for_is_counted(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    _, said = check(capsys, write_checkpoint(tmp_path / "w.pth", features=(4, 6, 8, 8)), "-d", 7)
    # a stage of the encoder (4), one of the decoder (4) and one upsampling (2)
    assert "10 tensors of the file have no place in the network, encoder.stages.3" in said


def test_a_dataset_that_is_not_planned_ends_with_2(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = check(capsys, write_checkpoint(tmp_path / "w.pth"), "-d", 7)
    assert code == 2
    assert "Dataset 7 is not there" in said


def test_a_configuration_that_is_not_planned_ends_with_2_and_those_there_are(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = check(capsys, write_checkpoint(tmp_path / "w.pth"), "-d", 7, "-c", "2d")
    assert code == 2
    assert "has no configuration '2d'. It has: 3d_fullres" in said
