"""A training as a process: its exit code, the signals it is given, and which one comes next."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from nnunet_volf import launch
from nnunet_volf.errors import TrainingError
from nnunet_volf.launch import Training, trainings_with
from nnunet_volf.plans import PlannedDataset

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

NAME = "Dataset501_Archive"
TRAINER = "nnUNetTrainerVolF"


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    return Training(PlannedDataset(NAME, tmp_path, {}), "3d_fullres", "VolFPlans", "all", "cuda", 1)


def signal_later(number: int, ready: Path) -> None:
    """Send this process a signal once a child says that it is ready."""

    def send() -> None:
        while not ready.exists():
            pass
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("code", [0, 1, 75])
def test_the_exit_code_is_the_trainings(training: Training, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(launch, "_ENTRY", f"import sys; sys.exit({code})")
    assert training.run() == code


def test_the_stock_entry_point_is_given_the_arguments(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "given"
    monkeypatch.setattr(
        launch, "_ENTRY", f"import sys, pathlib; pathlib.Path({str(written)!r}).write_text(repr(sys.argv))"
    )
    assert training.run() == 0
    expected = ["-c", "501", "3d_fullres", "all", "-p", "VolFPlans", "-tr", TRAINER]
    assert written.read_text() == repr(expected)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_us_alone_reaches_the_training_which_then_decides(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ready = tmp_path / "ready"
    code = (
        "import signal, sys, time, pathlib\n"
        f"signal.signal(signal.{name}, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)"
    )
    monkeypatch.setattr(launch, "_ENTRY", code)
    number = getattr(signal, name)
    before = signal.getsignal(number)
    signal_later(number, ready)
    assert training.run() == 75
    assert signal.getsignal(number) is before


@posix
def test_a_training_that_is_stopped_before_it_listens_has_lost_nothing_and_may_go_on(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    monkeypatch.setattr(launch, "_ENTRY", f"import time, pathlib; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)")
    signal_later(signal.SIGTERM, ready)
    assert training.run() == 75


@posix
def test_a_training_that_somebody_else_killed_has_failed_as_a_shell_would_say(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_ENTRY", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert training.run() == 128 + signal.SIGKILL


@posix
def test_ctrl_c_waits_for_the_training_to_end(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    code = f"import time, pathlib; pathlib.Path({str(ready)!r}).touch(); time.sleep(0.3); raise SystemExit(3)"
    monkeypatch.setattr(launch, "_ENTRY", code)
    signal_later(signal.SIGINT, ready)
    assert training.run() == 3


def test_without_a_results_folder_it_is_said_which_one(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(TrainingError, match="nnUNet_results is not set"):
        _ = training.folder


def test_the_trainings_of_a_plan_are_those_of_its_very_name(training: Training, tmp_path: Path) -> None:
    assert trainings_with(NAME, "VolFPlans") == []
    folder = tmp_path / NAME
    expected = []
    for place, counts in (
        (f"{TRAINER}__VolFPlans__3d_fullres/fold_all/checkpoint_final.pth", True),
        (f"{TRAINER}__VolFPlans__2d/fold_0/checkpoint_latest.pth", True),
        (f"{TRAINER}__VolFPlans__3d_lowres/fold_0/training_log.txt", False),
        (f"{TRAINER}__VolFPlans2__3d_fullres/fold_all/checkpoint_final.pth", False),
        ("nnUNetTrainerMAE__VolFPlans__3d_fullres/fold_0/checkpoint_final.pth", True),
        ("nnUNetTrainer__VolFPlans__3d_fullres/fold_0/checkpoint_final.pth", False),
    ):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).touch()
        expected += [folder / place] if counts else []
    assert trainings_with(NAME, "VolFPlans") == sorted(expected)


def test_the_cases_of_a_training_are_those_that_nnunet_noted_when_it_started(training: Training) -> None:
    training.folder.mkdir(parents=True)
    (training.folder.parent / "dataset.json").write_text('{"numTraining": 17, "labels": {}}')
    assert training.cases == 17


def test_it_is_run_by_this_very_python(training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "python"
    code = f"import sys, pathlib; pathlib.Path({str(written)!r}).write_text(sys.executable)"
    monkeypatch.setattr(launch, "_ENTRY", code)
    assert training.run() == 0
    assert written.read_text() == sys.executable
