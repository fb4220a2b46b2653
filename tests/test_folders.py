"""Folders that are not set, not there, no folders, only to be read, or gone in the middle: one message a command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders
from small_disks import small_disk
from training import DATASET, TRAINER, make_trainer, with_settings
from unlabeled import NAME, import_scans, write_scans

from nnunet_volf.cli import main
from nnunet_volf.errors import StorageError, TrainingError
from nnunet_volf.preprocessing import preprocess as preprocessing

IMPORT = ("import", "ARCHIVE", "-d", "501", "-np", "0")
PLAN = ("plan", "-d", "501", "-np", "0")
SETTINGS = ("settings", "501", "-p", "VolFPlans", "--set", "epochs=5")
PREPROCESS = ("preprocess", "-d", "501", "-np", "0")
PRETRAIN = ("pretrain", "ARCHIVE", "-device", "cpu", "-np", "0")
NEEDED = {  # the command, and the folders that it cannot do without
    IMPORT: ("nnUNet_raw",),
    PLAN: ("nnUNet_raw", "nnUNet_preprocessed"),
    SETTINGS: ("nnUNet_preprocessed",),
    PREPROCESS: ("nnUNet_raw", "nnUNet_preprocessed"),
    PRETRAIN: ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"),
}
ROWS = [(command, variable) for command, variables in NEEDED.items() for variable in variables]
IDS = [f"{command[0]} without {variable}" for command, variable in ROWS]


@pytest.fixture
def planned(nnunet_folders: NnUNetFolders, tmp_path: Path) -> NnUNetFolders:
    write_scans(tmp_path / "archive", 3)
    import_scans(tmp_path / "archive")
    assert main([*PLAN]) == 0
    return nnunet_folders


@pytest.mark.parametrize(("command", "variable"), ROWS, ids=IDS)
def test_a_folder_that_is_no_folder_is_named_with_its_variable(
    command: tuple[str, ...],
    variable: str,
    planned: NnUNetFolders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [argument.replace("ARCHIVE", str(tmp_path / "archive")) for argument in command]
    (tmp_path / "file").write_text("no folder")
    for value in (None, "", str(tmp_path / "missing"), str(tmp_path / "file")):
        if value is None:
            monkeypatch.delenv(variable)
        else:
            monkeypatch.setenv(variable, value)
        capsys.readouterr()
        if value == str(tmp_path / "missing") and variable == "nnUNet_results":
            continue  # nnU-Net makes that one itself
        assert main(arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("nnunet-volf: ")
        assert variable in said, said
        assert (value or "not set") in said, said
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("command", [IMPORT, PLAN, SETTINGS, PREPROCESS], ids=lambda command: command[0])
def test_a_disk_that_can_only_be_read_is_named_and_nothing_is_lost(
    command: tuple[str, ...],
    planned: NnUNetFolders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with small_disk(tmp_path / "disk", 24) as disk:
        for folder in planned:
            shutil.copytree(folder, disk.folder / folder.name)
            monkeypatch.setenv(folder.name, str(disk.folder / folder.name))
        disk.read_only()
        assert main([argument.replace("ARCHIVE", str(tmp_path / "archive")) for argument in command]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"nnunet-volf: {disk.folder}")
        assert "the file system can only be read. Have it mounted for writing, or choose another folder" in said


def gone_after(number: int, folder: Path) -> Callable[..., Any]:
    """Return what preprocesses a case, and before one of them has a folder vanish, as a share that is unmounted."""
    real, count = preprocessing._preprocess, 0

    def work(task: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            folder.rename(folder.with_name("unmounted"))
            folder.mkdir()  # where it was mounted
        return real(task)

    return work


def test_preprocessing_stops_when_its_folder_vanishes_and_writes_nothing_in_its_place(
    planned: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "_preprocess", gone_after(2, planned.preprocessed))
        assert main([*PREPROCESS]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert ".b2nd: it is not there, or its folder is not. If it is on a share" in said
    assert said.endswith("1 of 3 cases are done.")
    assert list(planned.preprocessed.iterdir()) == []
    planned.preprocessed.rmdir()
    planned.preprocessed.with_name("unmounted").rename(planned.preprocessed)
    assert main([*PREPROCESS]) == 0
    assert "2 to do, 1 done before" in capsys.readouterr().out


@pytest.mark.usefixtures("no_curves")
def test_a_training_whose_results_vanish_for_a_while_goes_on(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.sleep", lambda _: None)
    trainer = make_trainer(with_settings(epochs=3))
    step, away = trainer.train_step, phantoms.results.with_name("away")

    def step_with_the_share_gone(batch: dict[str, Any]) -> Any:
        at = (trainer.current_epoch, trainer.iteration)
        if at == (1, 1):
            phantoms.results.rename(away)
        if at == (2, 1):
            away.rename(phantoms.results)
        return step(batch)

    trainer.train_step = step_with_the_share_gone
    trainer.run_training()
    assert (
        "checkpoint_latest.pth: it is not there, or its folder is not. The training goes on" in capsys.readouterr().out
    )
    assert (Path(trainer.output_folder) / "checkpoint_final.pth").is_file()


def test_a_trainer_says_that_results_are_not_set_or_cannot_be_made(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plans = with_settings()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="a part of its path is a file and no folder"):
        make_trainer(plans)
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(TrainingError, match="nnUNet_results is not set"):
        make_trainer(plans)


@pytest.mark.slow
def test_the_last_line_of_nnunets_own_command_names_results_that_can_only_be_read(
    phantoms: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = with_settings()
    with small_disk(tmp_path / "disk", 2) as disk:
        monkeypatch.setenv("nnUNet_results", str(disk.folder))
        disk.read_only()
        entry = "from nnunetv2.run.run_training import run_training_entry; run_training_entry()"
        command = [sys.executable, "-c", entry, "901", "3d_fullres", "0", "-device", "cpu", "-p", plans, "-tr", TRAINER]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"nnunet_volf.errors.StorageError: {disk.folder / DATASET}: the file system can only be read"
    )


def test_an_output_that_has_no_room_is_told_of_in_one_line(planned: NnUNetFolders) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    program = "import sys; from nnunet_volf.cli import main; sys.exit(main(sys.argv[1:]))"
    with full.open("w") as nowhere:
        command = [sys.executable, "-c", program, "settings", "501", "-p", "VolFPlans"]
        done = subprocess.run(command, stdout=nowhere, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode
    assert "A file or the output: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert (planned.preprocessed / NAME / "VolFPlans.json").is_file()
