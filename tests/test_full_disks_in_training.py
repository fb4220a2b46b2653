"""A training whose disk gets full goes on until it has to save for the last time, and then says what is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from small_disks import SmallDisk, small_disk
from training import DATASET, FINE_TUNER, TRAINER, make_trainer, run_until, weights_of, with_fine_tuning, with_settings

from nnunet_volf.checkpoints import read_checkpoint
from nnunet_volf.errors import StorageError, TrainingError


@pytest.fixture
def disk(phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk that holds nnUNet_results."""
    # Five times half a second for each line that its log has no room for.
    monkeypatch.setattr("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.sleep", lambda _: None)
    with small_disk(tmp_path / "disk", 24) as disk:
        (disk.folder / "results").mkdir()
        monkeypatch.setenv("nnUNet_results", str(disk.folder / "results"))
        yield disk


def folder_of(disk: SmallDisk, plans: str, trainer: str = TRAINER) -> Path:
    return disk.folder / "results" / DATASET / f"{trainer}__{plans}__3d_fullres" / "fold_0"


def before_step(trainer: Any, number: int, act: Any) -> None:
    """Do something before a step, counted over all epochs."""
    step = trainer.train_step

    def watched(batch: dict[str, Any]) -> Any:
        if trainer.current_epoch * trainer.num_iterations_per_epoch + trainer.iteration == number:
            act()
        return step(batch)

    trainer.train_step = watched


def all_whole(folder: Path) -> list[str]:
    """Read all checkpoints of a folder, and return their names."""
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []
    found = sorted(folder.glob("checkpoint_*.pth"))
    for path in found:
        read_checkpoint(path)
    return [path.name for path in found]


@pytest.mark.parametrize("trainer_name", [TRAINER, FINE_TUNER])
def test_checkpoints_and_pictures_that_do_not_fit_are_told_of_and_tried_again(
    trainer_name: str, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    name = (
        with_settings("Test", epochs=3, panel_every=1)
        if trainer_name == TRAINER
        else with_fine_tuning("Test", epochs=3)
    )
    trainer = make_trainer(name, trainer_name)
    before_step(trainer, 4, disk.fill)  # in the second epoch
    before_step(trainer, 7, disk.make_room)  # in the third
    trainer.run_training()
    said = capsys.readouterr().out
    assert "WARNING: checkpoint_latest.pth was not written. " in said
    assert "checkpoint_latest.pth: the disk is full, 0.0 MB are free. The one before it is whole. The training" in said
    assert "WARNING: progress.png was not written" in said
    assert ("WARNING: The picture of this epoch was not written" in said) == (trainer_name == TRAINER)
    assert all_whole(folder_of(disk, name, trainer_name)) == ["checkpoint_best.pth", "checkpoint_final.pth"]
    assert trainer.best_saved == trainer._best_ema  # also where only the failed epoch was better


def test_a_best_checkpoint_that_did_not_fit_is_written_when_there_is_room(disk: SmallDisk) -> None:
    trainer = make_trainer(with_settings())
    trainer.initialize()
    best = folder_of(disk, "Test") / "checkpoint_best.pth"
    trainer.epoch_outputs = None
    trainer._best_ema = 0.5
    trainer.save_checkpoint(str(best))
    trainer._best_ema = 0.7
    disk.fill()
    trainer.save_checkpoint(str(best))
    assert trainer._best_ema == 0.5, "or 0.6 of the next epoch would not be saved, though the file holds 0.5"
    assert read_checkpoint(best)["_best_ema"] == 0.5
    disk.make_room()
    trainer._best_ema = 0.6
    trainer.save_checkpoint(str(best))
    assert read_checkpoint(best)["_best_ema"] == 0.6


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("moment", ["final", "sigterm"])
def test_a_last_save_that_fails_says_so_and_the_training_goes_on_from_the_one_before(
    moment: str, disk: SmallDisk, phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = with_settings()
    trainer = make_trainer(plans)
    before_step(trainer, 4, disk.fill)
    if moment == "sigterm":
        before_step(trainer, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        message = r"Stopped by SIGTERM after step 3 of epoch 1, and that was not saved\..* with --c does again"
    else:
        message = (
            r"The final checkpoint was not written\. .*checkpoint_final\.pth: the disk is full.* with --c does again"
        )
    with pytest.raises(TrainingError, match=message):
        trainer.run_training()
    assert all_whole(folder_of(disk, plans)) == ["checkpoint_best.pth", "checkpoint_latest.pth"]

    disk.make_room()
    run_until(make_trainer(plans, resume=True))
    monkeypatch.setenv("nnUNet_results", str(phantoms.results))
    run_until(make_trainer(plans))
    undisturbed = phantoms.results / folder_of(disk, plans).relative_to(disk.folder / "results")
    first, second = (weights_of(folder / "checkpoint_final.pth") for folder in (folder_of(disk, plans), undisturbed))
    assert all(torch.equal(first[name], second[name]) for name in second)


@pytest.mark.usefixtures("no_curves")
def test_a_training_that_is_done_says_so_where_its_summary_finds_no_room(disk: SmallDisk) -> None:
    plans = with_settings(epochs=1)
    trainer = make_trainer(plans)
    trainer.run_training()
    disk.fill()
    with pytest.raises(
        TrainingError, match=r"The training is done, and its validation .*summary\.json: the disk is full"
    ):
        trainer.perform_actual_validation()
    disk.make_room()
    trainer.perform_actual_validation()
    assert (folder_of(disk, plans) / "pretraining_summary.json").is_file()


@pytest.mark.usefixtures("no_curves")
def test_what_nnunet_would_empty_first_is_spared(disk: SmallDisk) -> None:
    plans = with_settings(epochs=1)
    make_trainer(plans).run_training()
    kept = folder_of(disk, plans).parent / "plans.json"
    before = kept.read_bytes()
    trainer = make_trainer(plans)
    disk.fill()
    with pytest.raises(StorageError, match="fold_0: the disk is full"):
        trainer.run_training()
    assert kept.read_bytes() == before


def test_half_a_split_is_not_left_behind(
    phantoms: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        shutil.copytree(phantoms.preprocessed, disk.folder / "preprocessed")
        monkeypatch.setenv("nnUNet_preprocessed", str(disk.folder / "preprocessed"))
        trainer = make_trainer(with_settings(epochs=1))
        trainer.initialize()
        disk.fill()
        with pytest.raises(StorageError, match=r"the disk is full"):
            trainer.on_train_start()
        assert not (disk.folder / "preprocessed" / DATASET / "splits_final.json").exists()


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    entry = "from nnunetv2.run.run_training import run_training_entry; run_training_entry()"
    command = [sys.executable, "-c", entry, "901", "3d_fullres", "0", "-device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_last_line_of_nnunets_own_command_is_the_message(disk: SmallDisk) -> None:
    plans = with_settings(epochs=1)
    disk.fill(leaving=200_000)  # enough for all but a checkpoint, and for the probe not
    done = train("-p", plans, "-tr", TRAINER)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("nnunet_volf.errors.StorageError: ")
    assert "fold_0: the disk is full" in last
