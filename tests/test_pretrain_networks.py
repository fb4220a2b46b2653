"""`pretrain` with --architecture: one command plans target and archive, and names the right plans at the end."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from conftest import NnUNetFolders
from training import (
    DATASET,
    TRAINER,
    assert_all_but_heads_are_equal,
    run_nnunet,
    weights_of,
    with_idle_trainer,
)
from unlabeled import NAME, write_scans

from nnunet_volf.cli import main
from nnunet_volf.launch import Training

Capture = pytest.CaptureFixture[str]
SHORT = ["epochs=1", "iterations=1", "validation_samples=1", "panel_every=0"]


def pretrain(source: Path, *arguments: str) -> int:
    return pretrain_own(source, "--architecture", *arguments)


def pretrain_own(source: Path, *arguments: str) -> int:
    return main(["pretrain", str(source), "-np", "0", "-device", "cpu", "--set", *SHORT, *arguments])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    write_scans(tmp_path / "scans", 2)
    return tmp_path / "scans"


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_dry_run_plans_the_target_without_writing_and_times_the_network(
    phantoms: NnUNetFolders, scans: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = everything_in(tmp_path)
    assert pretrain(scans, "pctnet", "--for", "901", "--dry-run") == 0
    out = capsys.readouterr().out
    assert everything_in(tmp_path) == before
    assert f"{DATASET} has no plans with PCT-Net: nnUNetPCTNetPlans will be made first" in out
    assert f"2 plan        3d_fullres like {DATASET}, nnUNetPCTNetPlans, as VolFPlans" in out
    assert "4 train       1 epochs of 1 steps = 1 steps. Timed on this cpu: " in out
    assert pretrain(scans, "fmunet", "--dry-run") == 0
    assert "3d_fullres by ExperimentPlanner with FMUNet, from the archive itself" in capsys.readouterr().out


def test_what_a_network_is_not_for_is_told_before_anything_is_done(
    phantoms: NnUNetFolders, scans: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = everything_in(tmp_path)
    for target in ([], ["--for", "901"]):
        assert pretrain(scans, "pctnet", "-c", "2d", *target) == 2
        assert "-c 2d --architecture pctnet: PCT-Net is a network for 3D and 2d is 2D." in capsys.readouterr().err
    assert pretrain(scans, "pctnet", "--for", "901", "-p", "nnUNetPlans") == 2
    assert "has another network: PlainConvUNet" in capsys.readouterr().err
    assert everything_in(tmp_path) == before


def note_trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every training be finished at once; returns the commands that were given."""

    def finish(training: Training) -> int:
        given.append(training.command())
        training.folder.mkdir(parents=True)
        for name in ("checkpoint_final.pth", "pretraining_panel.png"):
            (training.folder / name).touch()
        folder = training.folder.parent
        shutil.copy(training.dataset.folder / "dataset.json", folder)
        shutil.copy(training.dataset.folder / f"{training.plans_name}.json", folder / "plans.json")
        return 0

    given: list[str] = []
    monkeypatch.setattr(Training, "run", finish)
    return given


def test_one_command_plans_target_and_archive_and_ends_with_the_targets_plans(
    phantoms: NnUNetFolders, scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    given = note_trainings(monkeypatch)
    for _ in range(2):
        assert pretrain(scans, "pctnet", "--for", "901") == 0
        out = capsys.readouterr().out
        assert "next: nnUNetv2_train 901 3d_fullres 0 -p nnUNetPCTNetPlans -tr nnUNetTrainerVolFFineTune " in out
        assert "nnunet-volf benchmark 901 -p nnUNetPCTNetPlans -c 3d_fullres" in out
    assert given == [f"nnUNetv2_train 501 3d_fullres all -p VolFPlans -tr {TRAINER} -device cpu"]
    plans = json.loads((phantoms.preprocessed / NAME / "VolFPlans.json").read_text(encoding="utf-8"))
    network = plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"]
    assert network == "nnunet_volf.networks.PCTNet"
    assert pretrain(scans, "fmunet", "--for", "901") == 2
    assert "The plan asked for, like Dataset901_Phantom, nnUNetFMUNetPlans, is another one" in capsys.readouterr().err


def test_weights_for_any_dataset_are_for_one_that_first_gets_plans_with_the_network(
    phantoms: NnUNetFolders, scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    note_trainings(monkeypatch)
    assert pretrain(scans, "fmunet") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert lines[0] == "next: nnunet-volf plan -d DATASET --architecture fmunet"
    assert lines[1].startswith("next: nnunet-volf weights adapt ")
    assert " -d DATASET -p nnUNetFMUNetPlans -c 3d_fullres -o FILE" in lines[1]
    assert lines[2].startswith("next: nnUNetv2_train DATASET 3d_fullres 0 -p nnUNetFMUNetPlans -tr ")
    assert main(["plan", "-d", "901", *shlex.split(lines[0])[5:]]) == 0
    made = phantoms.preprocessed / DATASET / "nnUNetFMUNetPlans.json"
    assert made.is_file(), "the name that was told is the one that is made"


@pytest.mark.weekly
def test_a_context_block_is_planned_for_target_and_archive_alike(
    phantoms: NnUNetFolders, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = everything_in(tmp_path)
    assert pretrain_own(scans, "--context-block", "--for", "901", "--dry-run") == 0
    out = capsys.readouterr().out
    assert everything_in(tmp_path) == before
    assert f"{DATASET} has no plans with a context block: nnUNetContextPlans will be made first" in out
    assert "4 train       1 epochs of 1 steps = 1 steps. Timed on this cpu: " in out

    note_trainings(monkeypatch)
    assert pretrain_own(scans, "--context-block", "--for", "901") == 0
    out = capsys.readouterr().out
    assert "next: nnUNetv2_train 901 3d_fullres 0 -p nnUNetContextPlans -tr nnUNetTrainerVolFFineTune " in out
    target, archive = (
        json.loads((phantoms.preprocessed / place).read_text(encoding="utf-8"))["configurations"]["3d_fullres"]
        for place in (f"{DATASET}/nnUNetContextPlans.json", f"{NAME}/VolFPlans.json")
    )
    assert archive["architecture"] == target["architecture"]
    assert archive["architecture"]["network_class_name"] == "nnunet_volf.networks.ContextUNet"
    assert pretrain_own(scans, "--for", "901") == 2
    assert "like Dataset901_Phantom, nnUNetPlans, is another one" in capsys.readouterr().err


@pytest.mark.weekly
def test_weights_with_a_context_block_for_any_dataset_name_the_plans_that_they_go_to(
    phantoms: NnUNetFolders, scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    note_trainings(monkeypatch)
    assert pretrain(scans, "fmunet", "--context-block") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert lines[0] == "next: nnunet-volf plan -d DATASET --architecture fmunet --context-block"
    assert main(["plan", "-d", "901", *shlex.split(lines[0])[5:]]) == 0
    made = phantoms.preprocessed / DATASET / "nnUNetFMUNetContextPlans.json"
    assert made.is_file(), "the name that was told is the one that is made"
    assert all(f" -p {made.stem} " in line for line in lines[1:])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("network", ["fmunet"])  # PCT-Net goes the same way in test_networks_end_to_end
def test_stock_nnunet_takes_over_what_was_pretrained_with_the_network(
    phantoms: NnUNetFolders, scans: Path, tmp_path: Path, network: str, capfd: Capture
) -> None:
    assert pretrain(scans, network, "--for", "901") == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("next: nnUNet")]
    command = (*shlex.split(line.removeprefix("next: ")), "-tr", "nnUNetTrainerIdle", "-device", "cpu")
    done = run_nnunet(*command, nnUNet_extTrainer=with_idle_trainer(tmp_path / "users"))
    assert done.returncode == 0, done.stdout + done.stderr
    pretrained = weights_of(Path(command[command.index("-pretrained_weights") + 1]))
    stock = phantoms.results / DATASET / f"nnUNetTrainerIdle__{command[5]}__3d_fullres" / "fold_0"
    assert_all_but_heads_are_equal(pretrained, stock / "checkpoint_final.pth")
    assert all(isinstance(value, torch.Tensor) for value in pretrained.values())
