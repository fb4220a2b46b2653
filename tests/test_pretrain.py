"""`pretrain` as a user runs it: a folder of scans nobody prepared becomes weights that stock nnU-Net fine-tunes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import faults, write_itk
from conftest import NnUNetFolders
from dicoms import SECRETS, write_series
from training import (
    DATASET,
    FINE_TUNER,
    TRAINER,
    assert_all_but_heads_are_equal,
    change_plans,
    run_nnunet,
    weights_of,
    with_idle_trainer,
)
from unlabeled import NAME, NUMBER, import_scans, write_scans

from nnunet_volf.cli import main
from nnunet_volf.launch import Training
from nnunet_volf.phantoms import make_phantom
from nnunet_volf.plans import planned_dataset
from nnunet_volf.preprocessing import outlook

Capture = pytest.CaptureFixture[str]

SHORT = ["epochs=1", "iterations=2", "validation_samples=2", "panel_every=0"]
BROKEN = ("truncated_nifti", "truncated_meta", "empty_nifti", "junk_nrrd", "web_page_nii.gz", "series_over_time",
          "colours", "nan", "constant", "sheared")  # fmt: skip


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Train in this process, which has loaded everything; returns the commands that were given."""
    from nnunetv2.run.run_training import run_training

    given: list[str] = []

    def run(training: Training) -> int:
        given.append(training.command())
        run_training(
            training.dataset.name, training.configuration, training.fold, training.method.trainer,
            training.plans_name,
            continue_training="--c" in training.arguments(), only_run_validation="--val" in training.arguments(),
            device=torch.device("cpu"),
        )  # fmt: skip
        return 0

    monkeypatch.setattr(Training, "run", run)
    return given


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    write_scans(tmp_path / "scans", 3)
    return tmp_path / "scans"


def pretrain(source: Path | str, *arguments: str, settings: list[str] = SHORT) -> int:
    return main(["pretrain", str(source), "-np", "0", "-device", "cpu", "--set", *settings, *arguments])


def next_commands(out: str) -> list[list[str]]:
    return [shlex.split(line.removeprefix("next: ")) for line in out.splitlines() if line.startswith("next: nnUNet")]


def fold_folder(folders: NnUNetFolders, name: str = NAME) -> Path:
    return folders.results / name / f"{TRAINER}__VolFPlans__3d_fullres" / "fold_all"


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def preprocessed_cases(folders: NnUNetFolders, name: str = NAME) -> dict[str, int]:
    folder = folders.preprocessed / name
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob("*/case_*.b2nd")}


def write_mixed_archive(folder: Path, target_image: Path) -> None:
    """NIfTI, NRRD, MetaImage and DICOM, ten kinds of broken file, and an image of the dataset to fine-tune on."""
    write_scans(folder / "nifti", 2)
    for seed, (place, ending) in enumerate((("nrrd", ".nrrd"), ("meta", ".mha"))):
        (folder / place).mkdir()
        image, _ = make_phantom(np.random.default_rng(seed + 200), (24, 30, 27))
        write_itk(folder / place / f"scan{ending}", image[0], (1.0, 1.1, 0.9))
    image, _ = make_phantom(np.random.default_rng(300), (20, 32, 28))
    write_series(folder / "dicom" / "series", np.round(image[0] * 4).astype(np.int16), spacing=(1.0, 1.0, 1.2))
    (folder / "broken").mkdir()
    for fault in faults():
        if fault.name in BROKEN:
            fault.write(folder / "broken" / f"{fault.name}{fault.ending}")
    shutil.copy(target_image, folder / "seen.nii.gz")


@pytest.mark.timeout(600)
def test_a_mixed_and_partly_broken_folder_becomes_weights_that_stock_nnunet_fine_tunes_and_no_step_is_done_twice(
    phantoms: NnUNetFolders, tmp_path: Path, capfd: Capture
) -> None:
    archive = tmp_path / "archive"
    write_mixed_archive(archive, phantoms.raw / DATASET / "imagesTr" / "case_000_0000.nii.gz")
    before = everything_in(archive)

    assert pretrain(archive, "--for", "901") == 0
    out = capfd.readouterr().out
    assert everything_in(archive) == before, "an archive is read, never written"
    lines = (phantoms.raw / NAME / "import" / "manifest.jsonl").read_text().splitlines()
    manifest = [json.loads(line) for line in lines]
    assert sorted(entry["format"] for entry in manifest) == ["DICOM", "MetaImage", "NIfTI", "NIfTI", "NRRD"]
    quarantine = (phantoms.raw / NAME / "import" / "quarantine.csv").read_text()
    for name in (*(f"broken/{name}" for name in BROKEN), "seen.nii.gz"):
        assert len(re.findall(rf"^{re.escape(name)}", quarantine, re.MULTILINE)) == 1, name
    assert len(preprocessed_cases(phantoms)) == 5
    checkpoint = fold_folder(phantoms) / "checkpoint_final.pth"
    assert f"pretrained: {checkpoint}" in out
    ((command, *arguments),) = next_commands(out)
    assert [command, *arguments] == [
        "nnUNetv2_train", "901", "3d_fullres", "0", "-p", "nnUNetPlans", "-tr", FINE_TUNER,
        "-pretrained_weights", str(checkpoint),
    ]  # fmt: skip

    trainers = with_idle_trainer(tmp_path / "users")
    done = run_nnunet(command, *arguments, "-tr", "nnUNetTrainerIdle", "-device", "cpu", nnUNet_extTrainer=trainers)
    assert done.returncode == 0, done.stdout + done.stderr
    stock = phantoms.results / DATASET / "nnUNetTrainerIdle__nnUNetPlans__3d_fullres" / "fold_0"
    assert_all_but_heads_are_equal(weights_of(checkpoint), stock / "checkpoint_final.pth")

    cases, weights = preprocessed_cases(phantoms), checkpoint.stat().st_mtime_ns
    journal = (phantoms.raw / NAME / "import" / "journal.jsonl").read_bytes()
    assert pretrain(archive, "--for", "901") == 0
    again = capfd.readouterr().out
    assert next_commands(again) == [[command, *arguments]]
    assert f"4 train       done: {checkpoint}" in again
    assert "== 4/4" not in again
    assert (phantoms.raw / NAME / "import" / "journal.jsonl").read_bytes() == journal, "no image is looked at again"
    assert preprocessed_cases(phantoms) == cases
    assert checkpoint.stat().st_mtime_ns == weights

    for text in (out, again, (phantoms.raw / NAME / "import_report.html").read_text(encoding="utf-8")):
        assert not [secret for secret in SECRETS.values() if secret in text]


def test_a_disk_that_may_be_too_small_is_told_and_can_be_ignored(
    phantoms: NnUNetFolders, scans: Path, train_here: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    assert pretrain(scans, "--for", "901") == 2
    assert "go on all the same with --ignore-disk" in capfd.readouterr().err
    assert not train_here
    assert pretrain(scans, "--for", "901", "--ignore-disk") == 0
    assert len(train_here) == 1


def test_a_dry_run_tells_all_four_stages_and_writes_nothing(
    phantoms: NnUNetFolders, scans: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = everything_in(tmp_path)
    assert pretrain(scans, "--for", "901", "--dry-run") == 0
    out = capsys.readouterr().out
    assert everything_in(tmp_path) == before
    assert re.search(rf"^1 import +{re.escape(str(scans))}: 3 NIfTI\n +into {NAME}", out, re.MULTILINE)
    assert re.search(rf"^2 plan +3d_fullres like {DATASET}, nnUNetPlans, as VolFPlans$", out, re.MULTILINE)
    assert re.search(r"^3 preprocess +at most about 0\.\d MB as float32 in .*, which has .+B free$", out, re.M)
    assert re.search(r"^4 train +1 epochs of 2 steps = 2 steps\. Timed on this cpu: .* s a step", out, re.MULTILINE)
    assert out.endswith("next: the same command without --dry-run\n")


def test_the_time_that_is_told_counts_settings_of_an_earlier_run_and_those_asked_for_now(
    phantoms: NnUNetFolders, scans: Path, capfd: Capture
) -> None:
    import_scans(scans, "--channels", "phantom0")
    assert main(["plan", "-d", "501", "--for", "901", "--set", "epochs=7", "iterations=11", "flip=0.1"]) == 0
    capfd.readouterr()
    assert pretrain(scans, "--for", "901", "--dry-run", settings=["flip=null"]) == 0
    assert "4 train       7 epochs of 11 steps = 77 steps." in capfd.readouterr().out
    assert pretrain(scans, "--for", "901", "--dry-run", settings=["epochs=3"]) == 0
    assert "4 train       3 epochs of 11 steps = 33 steps." in capfd.readouterr().out
    assert pretrain(scans, "--dry-run", "--as", "New", settings=["flip=null"]) == 0
    assert "is known once the archive is planned" in capfd.readouterr().out


def test_without_a_target_a_dry_run_says_what_it_cannot_know(
    nnunet_folders: NnUNetFolders, scans: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = everything_in(tmp_path)
    assert pretrain(scans, "--dry-run", "-pl", "nnUNetPlannerResEncM") == 0
    out = capsys.readouterr().out
    assert "3d_fullres by nnUNetPlannerResEncM, from the archive itself" in out
    assert "how long it takes is known once the archive is planned" in out
    assert everything_in(tmp_path) == before


def test_an_imported_dataset_can_be_named_in_place_of_a_folder(
    phantoms: NnUNetFolders, scans: Path, train_here: list[str], capfd: Capture
) -> None:
    import_scans(scans)
    capfd.readouterr()
    for source in (str(NUMBER), NAME, str(phantoms.raw / NAME)):
        assert pretrain(source, "--for", "901", "--dry-run") == 0
        assert f"1 import      done: {NAME}" in capfd.readouterr().out
    assert pretrain(str(NUMBER), "--for", "901") == 0
    out = capfd.readouterr().out
    assert "== 1/4" not in out
    assert "trained on" not in out
    assert next_commands(out)[0][-1] == str(fold_folder(phantoms) / "checkpoint_final.pth")
    assert train_here == [f"nnUNetv2_train 501 3d_fullres all -p VolFPlans -tr {TRAINER} -device cpu"]


def test_another_pretext_learns_from_the_archive_as_it_was_imported_and_preprocessed(
    phantoms: NnUNetFolders, scans: Path, train_here: list[str], capfd: Capture
) -> None:
    assert pretrain(scans, "--for", "901") == 0
    before = preprocessed_cases(phantoms)
    capfd.readouterr()
    assert pretrain(str(NUMBER), "--for", "901", "--pretext", "mae") == 0
    out = capfd.readouterr().out
    assert preprocessed_cases(phantoms) == before, "nothing is done twice"
    trainer = "nnUNetTrainerMAE"
    assert train_here[1] == f"nnUNetv2_train 501 3d_fullres all -p VolFPlans -tr {trainer} -device cpu"
    final = phantoms.results / NAME / f"{trainer}__VolFPlans__3d_fullres" / "fold_all" / "checkpoint_final.pth"
    assert next_commands(out)[0][-1] == str(final)
    plan = json.loads((phantoms.preprocessed / NAME / "VolFPlans.json").read_text())["configurations"]["3d_fullres"]
    assert plan["volf"] == plan["volf_mae"]
    assert plan["volf_mae"]["iterations"] == 2


def test_a_training_that_was_killed_before_it_was_scored_is_only_scored(
    phantoms: NnUNetFolders, scans: Path, train_here: list[str], capfd: Capture
) -> None:
    assert pretrain(scans, "--for", "901") == 0
    folder = fold_folder(phantoms)
    summary, checkpoint = (folder / name for name in ("pretraining_summary.json", "checkpoint_final.pth"))
    scores, weights = summary.read_text(), checkpoint.read_bytes()
    for unscored in ((folder / "pretraining_panel.png",), (folder / "pretraining_panel.png", summary)):
        for path in unscored:
            path.unlink()
        assert pretrain(scans, "--for", "901") == 0
        assert train_here[-1].endswith(" -device cpu --val")
        assert (folder / "pretraining_panel.png").is_file()
        assert summary.read_text() == scores
        assert checkpoint.read_bytes() == weights
    assert next_commands(capfd.readouterr().out)[-1][-1] == str(checkpoint)


def test_a_pretext_that_cannot_work_is_refused_before_anything_is_imported(
    phantoms: NnUNetFolders, scans: Path, capsys: Capture
) -> None:
    assert pretrain(scans, "--for", "901", "--pretext", "slem") == 2
    assert "SLeM needs at least 2" in capsys.readouterr().err
    assert not (phantoms.raw / NAME).exists()


def test_an_archive_that_grew_after_the_training_is_imported_and_the_weights_are_said_not_to_know_it(
    phantoms: NnUNetFolders, scans: Path, train_here: list[str], capfd: Capture
) -> None:
    assert pretrain(scans, "--for", "901") == 0
    first = next_commands(capfd.readouterr().out)
    write_scans(scans / "more", 2, first_seed=900)
    checkpoint = fold_folder(phantoms) / "checkpoint_final.pth"
    before = checkpoint.read_bytes()
    assert pretrain(scans, "--for", "901") == 0
    out = capfd.readouterr().out
    assert next_commands(out) == first
    assert checkpoint.read_bytes() == before
    assert len(train_here) == 1
    assert "warning: trained on 3 cases, and the archive has 5 now" in out
    assert "settings take effect" not in out
    assert pretrain(scans, "--for", "901", settings=[*SHORT, "flip=0.1"]) == 0
    assert "warning: this training is finished; other settings take effect in a new one: --as VolFPlans2" in (
        capfd.readouterr().out
    )

    assert pretrain(scans, "--for", "901", "--as", "VolFPlans2") == 0
    assert "trained on" not in capfd.readouterr().out
    assert train_here[1] == f"nnUNetv2_train 501 3d_fullres all -p VolFPlans2 -tr {TRAINER} -device cpu"
    assert len(preprocessed_cases(phantoms)) == 3 + 5


def test_a_plan_that_was_trained_with_is_not_replaced_by_one_that_its_weights_do_not_fit(
    phantoms: NnUNetFolders, scans: Path, train_here: list[str], capfd: Capture
) -> None:
    assert pretrain(scans, "--for", "901") == 0
    plan = phantoms.preprocessed / NAME / "VolFPlans.json"
    before = plan.read_bytes()
    change_plans(lambda plans: plans["configurations"]["3d_fullres"].update(spacing=[2, 2, 2]), target="Other")
    capfd.readouterr()
    made = f"{NAME} was trained with VolFPlans, which was made like {DATASET}, nnUNetPlans."
    assert pretrain(scans, "--for", "901", "-p", "Other") == 2
    told = capfd.readouterr()
    assert f"{made} The plan asked for, like {DATASET}, Other, is another one" in told.err
    assert "--as VolFPlans2" in told.err
    assert pretrain(scans) == 2
    assert f"{made} The plan asked for, by ExperimentPlanner, is another one" in capfd.readouterr().err
    assert plan.read_bytes() == before
    assert len(train_here) == 1
    assert pretrain(scans, "--for", "901", "--set", "epochs=7") == 0
    assert json.loads(plan.read_text())["configurations"]["3d_fullres"]["volf"]["epochs"] == 7, "settings may change"


def test_a_plan_of_its_own_stays_as_it_was_trained_with_when_the_archive_grows(
    nnunet_folders: NnUNetFolders, scans: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(training: Training) -> int:
        commands.append(training.command())
        training.folder.mkdir(parents=True, exist_ok=True)
        (training.folder / "checkpoint_latest.pth").touch()
        return 75

    def note(_planned: Any, _configuration: str, settings: Mapping[str, Any], *_: Any) -> str:
        times.append((settings["epochs"], settings["iterations"]))
        return "about 3 h"

    times: list[tuple[int, int]] = []
    commands: list[str] = []
    monkeypatch.setattr(Training, "run", stop)
    monkeypatch.setattr(outlook, "describe_time", note)
    assert pretrain(scans) == 75
    out = capfd.readouterr().out
    assert "next: nnunet-volf plan" not in out, "only the last line tells what is next"
    assert out.endswith(
        f"\nstopped; its log is in {fold_folder(nnunet_folders)}\nnext: the same command, which goes on from there\n"
    )
    assert times == [(1, 2)], "told as soon as there is a plan"
    plan = nnunet_folders.preprocessed / NAME / "VolFPlans.json"
    before = plan.read_bytes()
    write_scans(scans / "more", 5, shape=(30, 20, 40), spacing=(3.0, 0.5, 0.5), first_seed=900)
    assert pretrain(scans) == 75
    out = capfd.readouterr().out
    assert plan.read_bytes() == before
    assert "by ExperimentPlanner, kept as it was when the training began" in out
    assert "wrote 5 cases" in out, "a training that is not finished takes new cases in"
    assert json.loads((nnunet_folders.preprocessed / NAME / "dataset.json").read_text())["numTraining"] == 8
    assert [command.endswith("--c") for command in commands] == [False, True]

    assert pretrain(scans, "-pl", "nnUNetPlannerResEncM") == 2
    error = capfd.readouterr().err
    assert "made by ExperimentPlanner. The plan asked for, by nnUNetPlannerResEncM, is another one" in error
    assert pretrain(scans, "-pl", "nnUNetPlannerResEncM", "--as", "ResEnc") == 75
    assert "-p ResEnc" in commands[2]


def test_two_channels_need_patterns_and_work_with_them(
    phantoms: NnUNetFolders, tmp_path: Path, train_here: list[str], capfd: Capture
) -> None:
    make_two_channels(phantoms)
    write_scans(tmp_path / "scans", 2, channels=2)
    assert pretrain(tmp_path / "scans", "--for", "901") == 2
    error = capfd.readouterr().err
    assert "Dataset 901 has 2 channels" in error
    assert "--channels 'T1=*_0000.nii.gz' 'T2=*_0001.nii.gz'" in error
    assert not (phantoms.raw / NAME).exists()

    assert pretrain(tmp_path / "scans", "--for", "901", "--channels", "T1=*_t0.nii.gz", "T2=*_t1.nii.gz") == 0
    weights = weights_of(fold_folder(phantoms) / "checkpoint_final.pth")
    first = next(value for name, value in weights.items() if name.startswith("encoder") and value.ndim == 5)
    assert first.shape[1] == 2
    assert pretrain(tmp_path / "scans", "--for", "901") == 0, "once imported, the dataset knows its channels"


def make_two_channels(folders: NnUNetFolders) -> None:
    """Let the target say that it has two channels; pretraining reads none of its voxels."""
    for file in (folders.raw / DATASET / "dataset.json", folders.preprocessed / DATASET / "dataset.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "channel_names": {"0": "T1", "1": "T2"}}))
    path = folders.preprocessed / DATASET / "nnUNetPlans.json"
    plans: dict[str, Any] = json.loads(path.read_text())
    for configuration in plans["configurations"].values():
        for key in ("normalization_schemes", "use_mask_for_norm"):
            if key in configuration:
                configuration[key] *= 2
    statistics = plans["foreground_intensity_properties_per_channel"]
    statistics["1"] = statistics["0"]
    path.write_text(json.dumps(plans))


@pytest.mark.parametrize("missing", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_a_missing_folder_is_told_before_anything_is_done(
    nnunet_folders: NnUNetFolders, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
    missing: str,
) -> None:  # fmt: skip
    monkeypatch.delenv(missing)
    before = everything_in(tmp_path)
    assert pretrain(scans) == 2
    told = capsys.readouterr()
    assert told.err == f"nnunet-volf: {missing}: not set. export {missing}=/path/to/{missing}\n"
    assert told.out == ""
    assert everything_in(tmp_path) == before


def test_a_folder_that_nnunet_makes_need_not_exist(nnunet_folders: NnUNetFolders, scans: Path, capsys: Capture) -> None:
    nnunet_folders.results.rmdir()
    assert pretrain(scans, "--dry-run") == 0
    assert "which has" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--for", "777"], "Dataset 777 is not there."),
        (["--for", "901", "-p", "Other"], "Other.json does not exist. Plans of this dataset: nnUNetPlans"),
        (["--for", "901", "-c", "4d"], "has no configuration '4d'"),
        (["--for", "901", "--set", "epoch=3"], "There is no setting 'epoch'"),
        (["--for", "901", "--set", "epochs=0"], "epochs"),
        (["-pl", "Planner"], "nnU-Net has no planner 'Planner'"),
        (["--set", "flip=2"], "flip"),
    ],
)
def test_mistakes_are_answered_before_anything_is_imported(
    phantoms: NnUNetFolders, scans: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert pretrain(scans, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (phantoms.raw / NAME).exists()


def test_a_device_that_is_not_there_is_told_before_anything_is_done(
    nnunet_folders: NnUNetFolders, scans: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pretrain(scans, "-device", "cuda") == 2
    told = capsys.readouterr()
    assert told.err == "nnunet-volf: -device cuda: torch finds no such device here. There is cpu.\n"
    assert told.out == ""


def test_a_training_that_fails_gives_its_exit_code_and_says_where_to_look(
    phantoms: NnUNetFolders, scans: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setattr(Training, "run", lambda _: 137)
    assert pretrain(scans, "--for", "901") == 137
    out = capfd.readouterr().out
    assert f"the training failed with code 137; its log is in {fold_folder(phantoms)}\nnext: the same command" in out
    assert not next_commands(out)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_weights_of_an_archive_planned_by_itself_are_brought_to_a_dataset_by_the_printed_commands(
    phantoms: NnUNetFolders, tmp_path: Path, capfd: Capture
) -> None:
    def usual_widths(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [32, 64, 128]

    change_plans(usual_widths)
    write_scans(tmp_path / "scans", 3)
    assert pretrain(tmp_path / "scans") == 0
    lines = [line.removeprefix("next: ") for line in capfd.readouterr().out.splitlines() if line.startswith("next: ")]
    fitted = tmp_path / "fitted.pth"
    adapt, train = (
        shlex.split(line.replace("DATASET", "901").replace("FILE", shlex.quote(str(fitted)))) for line in lines
    )
    assert main(adapt[1:]) == 0
    trainers = with_idle_trainer(tmp_path / "users")
    done = run_nnunet(*train, "-tr", "nnUNetTrainerIdle", "-device", "cpu", nnUNet_extTrainer=trainers)
    assert done.returncode == 0, done.stdout + done.stderr
    pretrained = weights_of(fold_folder(phantoms) / "checkpoint_final.pth")
    stock = phantoms.results / DATASET / "nnUNetTrainerIdle__nnUNetPlans__3d_fullres" / "fold_0"
    trained = torch.load(stock / "checkpoint_final.pth", weights_only=False)["network_weights"]
    kept = [name for name, value in trained.items() if name in pretrained and torch.equal(value, pretrained[name])]
    assert {name.split(".")[0] for name in kept} == {"encoder", "decoder"}


_COMMAND = "import sys; from nnunet_volf.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process of Windows at once")
def test_stopped_by_a_scheduler_it_leaves_with_75_and_goes_on_when_run_again(
    phantoms: NnUNetFolders, scans: Path, capfd: Capture
) -> None:
    arguments = [str(scans), "--for", "901", "-np", "0", "-device", "cpu"]
    settings = ["epochs=100000", "iterations=2", "validation_samples=2", "panel_every=0"]
    process = subprocess.Popen([sys.executable, "-c", _COMMAND, "pretrain", *arguments, "--set", *settings])
    folder = fold_folder(phantoms)
    deadline = time.monotonic() + 300
    try:
        while not any("Epoch 1" in log.read_text() for log in folder.glob("training_log*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
    finally:  # a failed test leaves no training behind
        process.send_signal(signal.SIGTERM)
        left_with = process.wait(120)
    assert left_with == 75
    cases = preprocessed_cases(phantoms)
    stopped = torch.load(folder / "checkpoint_latest.pth", weights_only=True)["current_epoch"]
    assert stopped >= 1

    capfd.readouterr()
    assert pretrain(scans, "--for", "901", settings=[f"epochs={stopped + 1}"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^nnUNetv2_train 501 .* --c$", out, re.MULTILINE)
    assert preprocessed_cases(phantoms) == cases
    assert torch.load(folder / "checkpoint_final.pth", weights_only=True)["current_epoch"] == stopped + 1
    assert len(next_commands(out)) == 1


def test_what_the_user_says_of_the_machine_reaches_the_training(phantoms: NnUNetFolders) -> None:
    planned = planned_dataset("901")
    plain = Training(planned, "2d", "VolFPlans", "all", "cuda", 1)
    assert plain.arguments() == ["901", "2d", "all", "-p", "VolFPlans", "-tr", TRAINER]
    other = Training(planned, "3d_fullres", "Mine", "3", "mps", 4)
    assert other.command() == f"nnUNetv2_train 901 3d_fullres 3 -p Mine -tr {TRAINER} -device mps -num_gpus 4"
    assert other.folder == phantoms.results / DATASET / f"{TRAINER}__Mine__3d_fullres" / "fold_3"
    assert other.finished is None
    other.folder.mkdir(parents=True)
    (other.folder / "checkpoint_latest.pth").touch()
    assert other.arguments()[-1] == "--c"
    assert other.finished is None
    (other.folder / "checkpoint_final.pth").touch()
    assert other.arguments()[-1] == "--val"
    assert other.finished is None
    (other.folder / "pretraining_panel.png").touch()
    assert other.finished == other.folder / "checkpoint_final.pth"
