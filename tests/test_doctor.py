"""The doctor's findings, each from plain facts, and the whole command on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import NnUNetFolders

from nnunet_volf import diagnosis, discovery
from nnunet_volf.cli import main
from nnunet_volf.diagnosis import GIB, MIB, Finding
from nnunet_volf.discovery import Route
from nnunet_volf.errors import VolFError
from nnunet_volf.machine import Limit

BY_ENTRY_POINT = Route("entry point", "torch adds the folder")
NOT_AT_WORK = Route("not at work", "torch 2.4.1 does not call entry points")


def test_installed_versions_are_ok() -> None:
    findings = diagnosis.check_versions({"torch": "2.8.0", "nnunetv2": "2.8.1"})
    assert [(finding.level, finding.found) for finding in findings] == [("ok", "2.8.0"), ("ok", "2.8.1")]


def test_a_missing_package_stops_a_training() -> None:
    (finding,) = diagnosis.check_versions({"nnunetv2": None})
    assert finding == Finding("error", "nnunetv2", "not installed", "pip install nnunetv2")


@pytest.mark.parametrize("version", ["2.9.0", "2.9.1+cu128"])
def test_torch_2_9_is_warned_about(version: str) -> None:
    (finding,) = diagnosis.check_versions({"torch": version})
    assert finding.level == "warning"
    assert finding.found == f"{version}: 3D convolutions in autocast are slow"
    assert finding.advice == 'pip install "torch!=2.9.*"'


def test_an_nnunet_that_does_not_look_for_our_trainers_is_an_error() -> None:
    (finding,) = diagnosis.check_versions({"nnunetv2": "2.7.0"})
    assert finding.level == "error"
    assert finding.advice == 'pip install "nnunetv2>=2.8,<3"'


def test_existing_folders_are_ok(nnunet_folders: NnUNetFolders) -> None:
    findings = diagnosis.check_folders(os.environ)
    assert [finding.found for finding in findings] == [str(folder) for folder in nnunet_folders]
    assert {finding.level for finding in findings} == {"ok"}


def test_an_unset_folder_is_an_error_with_the_line_to_type() -> None:
    finding = diagnosis.check_folders({})[0]
    assert finding == Finding("error", "nnUNet_raw", "not set", "export nnUNet_raw=/path/to/nnUNet_raw")


def test_a_missing_folder_is_only_a_warning_because_nnunet_makes_it() -> None:
    finding = diagnosis.check_folders({"nnUNet_results": "/nowhere/results"})[2]
    assert finding.level == "warning"
    assert finding.advice == "mkdir -p '/nowhere/results'"


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    finding = diagnosis.check_folders({"nnUNet_results": str(file)})[2]
    assert (finding.level, finding.found) == ("error", f"{file} is not a folder")


def test_only_the_raw_folder_may_be_read_only(nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _folder, _mode: False)
    findings = diagnosis.check_folders(os.environ)
    assert [finding.level for finding in findings] == ["warning", "error", "error"]
    assert findings[2].found == f"{nnunet_folders.results} is not writable"


def test_a_trainer_found_in_our_folder_is_ok_and_tells_the_route(tmp_path: Path) -> None:
    finding = diagnosis.check_trainer("nnUNetTrainerVolF", tmp_path / "a.py", tmp_path, BY_ENTRY_POINT)
    assert (finding.level, finding.found) == ("ok", "found by entry point: torch adds the folder")


def test_a_trainer_that_is_not_searched_for_asks_for_the_export_line(tmp_path: Path) -> None:
    finding = diagnosis.check_trainer("nnUNetTrainerVolF", None, tmp_path, NOT_AT_WORK, "Could not find it")
    assert finding.level == "error"
    assert finding.found == "nnU-Net does not find it: torch 2.4.1 does not call entry points"
    assert finding.advice == 'export nnUNet_extTrainer="$(nnunet-volf trainers)"'


def test_a_trainer_that_fails_although_searched_for_shows_what_nnunet_said(tmp_path: Path) -> None:
    finding = diagnosis.check_trainer("nnUNetTrainerVolF", None, tmp_path, BY_ENTRY_POINT, "no module foo")
    assert (finding.level, finding.found) == ("error", "no module foo")


def test_a_trainer_hidden_by_another_file_is_a_warning(tmp_path: Path) -> None:
    finding = diagnosis.check_trainer("nnUNetTrainerVolF", Path("/other/a.py"), tmp_path, BY_ENTRY_POINT)
    assert (finding.level, finding.found) == ("warning", "found in /other/a.py, which is not ours")


@pytest.mark.parametrize(
    ("gpus", "mps", "cuda_build", "driver", "level", "advice"),
    [
        (["H100 (80 GiB)"], False, True, True, "ok", ""),
        ([], False, False, True, "warning", "Install a CUDA build of torch"),
        ([], True, False, False, "note", "add -device mps"),
        ([], False, False, False, "warning", "add -device cpu"),
        ([], False, True, True, "warning", "add -device cpu"),
    ],
)
def test_the_device_is_told_with_the_option_it_needs(
    gpus: list[str], mps: bool, cuda_build: bool, driver: bool, level: str, advice: str
) -> None:
    finding = diagnosis.check_device(gpus, mps, cuda_build, driver)
    assert finding.level == level
    assert finding.advice.startswith(advice)


@pytest.mark.parametrize(("free", "level"), [(None, "ok"), (64 * MIB, "error"), (GIB, "warning"), (8 * GIB, "ok")])
def test_little_shared_memory_is_told_before_workers_are_killed(free: int | None, level: str) -> None:
    finding = diagnosis.check_shared_memory(free)
    assert finding.level == level
    assert ("--shm-size=8g" in finding.advice) == (level != "ok")


@pytest.mark.parametrize(
    ("limits", "level", "advice"),
    [
        (None, "ok", ""),
        ((256, 10240), "warning", "ulimit -n 4096"),
        ((1024, 1 << 60), "note", "ulimit -n 4096"),
        ((1024, 2048), "note", "ulimit -n 2048"),
        ((1024, 1024), "ok", ""),
        ((65536, 65536), "ok", ""),
    ],
)
def test_a_low_limit_on_open_files_is_told_with_what_can_be_had(
    limits: tuple[int, int] | None, level: str, advice: str
) -> None:
    finding = diagnosis.check_open_files(limits)
    assert (finding.level, finding.advice) == (level, advice)


@pytest.mark.parametrize(
    ("usable", "gpus", "installed", "chosen", "level", "advice"),
    [
        (64, 1, 64, None, "ok", ""),
        (4, 1, 64, None, "note", "export nnUNet_n_proc_DA=3"),  # only stock trainers take that many
        (4, 1, 64, "12", "warning", "export nnUNet_n_proc_DA=3"),
        (16, 4, 16, None, "note", "export nnUNet_n_proc_DA=3"),
        (16, 1, 16, "2", "note", "export nnUNet_n_proc_DA=12"),
        (16, 1, 16, "12", "ok", ""),
        (2, 0, 2, None, "ok", ""),
        (16, 1, 16, "many", "error", "export nnUNet_n_proc_DA=12"),
    ],
)
def test_workers_are_held_against_the_cpus_that_may_be_used(
    usable: int, gpus: int, installed: int, chosen: str | None, level: str, advice: str
) -> None:
    cpus, workers = diagnosis.check_workers(Limit(usable, "SLURM_CPUS_PER_TASK"), gpus, installed, chosen)
    assert cpus.found == f"{usable} usable of {installed}, by SLURM_CPUS_PER_TASK"
    assert workers.level == level
    assert workers.advice == advice or level == "ok"


def test_the_next_command_mends_the_first_error() -> None:
    findings = [Finding("warning", "a", "b", "c"), Finding("error", "d", "e", "export f")]
    assert diagnosis.next_command(findings, ["Dataset004_Hippocampus"], "cuda") == "export f"


def test_the_next_command_makes_a_dataset_where_there_is_none() -> None:
    assert diagnosis.next_command([], [], "cpu").startswith("nnUNetv2_plan_and_preprocess -d DATASET")


@pytest.mark.parametrize(("device", "option"), [("cuda", ""), ("mps", " -device mps"), ("cpu", " -device cpu")])
def test_the_next_command_trains_on_the_device_there_is(device: str, option: str) -> None:
    command = diagnosis.next_command([], ["Dataset004_Hippocampus"], device)
    assert command == f"nnunet-volf pretrain FOLDER_OF_SCANS --for 4{option}"


def test_the_doctor_finds_this_environment_fit(
    nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(discovery.trainers_folder()))
    plans = nnunet_folders.preprocessed / "Dataset004_Hippocampus" / "nnUNetPlans.json"
    plans.parent.mkdir()
    plans.touch()
    code = main(["doctor"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "nnUNetTrainerVolF" in told
    assert "next: nnunet-volf pretrain FOLDER_OF_SCANS --for 4" in told


def test_the_doctor_exits_with_one_when_a_training_would_stop(
    nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(name: str) -> type:
        message = f"nnU-Net does not find the trainer {name}."
        raise VolFError(message)

    monkeypatch.setattr(discovery, "resolve_trainer", lost)
    monkeypatch.delenv("nnUNet_results")
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "nnU-Net does not find the trainer nnUNetTrainerVolF." in told
    assert "next: export nnUNet_results=/path/to/nnUNet_results" in told
