"""A whole benchmark with the real nnU-Net, as a user runs it: refusals, trainings, a failure, going on, the report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import NnUNetFolders
from test_benchmark_training import write_weights
from training import DATASET

from nnunet_volf.benchmark.asking import Request, make_experiment
from nnunet_volf.benchmark.subsets import subset
from nnunet_volf.cli import main
from nnunet_volf.preprocessing.occurrences import Occurrences

SHORT = ["--labels", "1", "2", "--seeds", "1", "--epochs", "2", "--iterations", "2", "-device", "cpu", "--no-mirroring"]


def test_a_dry_run_says_what_is_compared_and_trains_nothing(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_weights(tmp_path / "w.pth")
    assert main(["benchmark", "901", "--pretrained", str(weights), *SHORT, "--folds", "0", "1", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"  encoder      nnUNetTrainerVolFFineTune from the encoder of {weights}; adamw at 0.001\n" in said
    assert "  stock        nnUNetTrainer without weights; nnU-Net's own schedule, SGD at 0.01\n" in said
    assert "  labels       1, 2 of 3\n" in said
    assert "  tested on    3 cases that no arm is trained on\n" in said
    assert "16 trainings, 0 of them done\n" in said
    assert said.endswith("next: the same command without --dry-run\n")
    folder = phantoms.results / DATASET / "benchmark__nnUNetPlans__3d_fullres"
    assert not (folder / "runs").exists()


@pytest.mark.slow
def test_a_dask_scheduler_that_does_not_answer_is_named(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    assert main(["benchmark", "901", *SHORT, "--dask", "tcp://127.0.0.1:1", "-o", str(tmp_path / "b")]) == 2
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Dask's own, which change with every release
def test_trainings_on_a_dask_cluster_of_this_machine_are_reported_as_any(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    command = ["benchmark", "901", *SHORT, "--labels", "1", "--arms", "scratch", "stock", "-o", str(tmp_path / "b")]
    assert main([*command, "--dask", "local", "-np", "2"]) == 0
    said = capsys.readouterr().out
    assert "[2/2]" in said
    assert f"report: {tmp_path / 'b' / 'report.html'}" in said
    assert sorted(path.name for path in (tmp_path / "b").iterdir() if path.name.startswith(".")) == []


def test_a_mistake_is_told_before_anything_is_trained(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "901", "--arms", "volf", *SHORT]) == 2
    assert "name them with --pretrained FILE" in capsys.readouterr().err
    assert main(["benchmark", "901", *SHORT, "-device", "cuda", "-o", str(tmp_path)]) == 2
    assert "-device cuda: torch finds no such device here." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_benchmark_from_beginning_to_end(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "b"
    weights = write_weights(tmp_path / "w.pth")
    command = ["benchmark", "901", "--pretrained", str(weights), "-np", "2", "-o", str(folder), *SHORT]
    assert main([*command, "--arms", "scratch", "volf"]) == 0
    said = capsys.readouterr().out
    assert said.count("Dice 0.") >= 4
    assert "[4/4]" in said
    assert f"report: {folder / 'report.html'}" in said
    times = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}
    assert len(times) == 4

    # One result lost and one arm more: only what is missing is trained.
    lost = folder / "runs" / "volf_2labels_seed1_fold0"
    shutil.rmtree(lost)
    assert main([*command, "--arms", "scratch", "volf", "stock"]) == 0
    said = capsys.readouterr().out
    assert "6 trainings, 3 of them done" in said
    after = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}
    assert len(after) == 6
    assert all(after[path] == time for path, time in times.items() if lost not in path.parents)

    with (folder / "results.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 * 2 * 2  # trainings, test cases, classes
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert {arm["name"] for arm in report["experiment"]["arms"]} == {"scratch", "volf", "stock"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert report["findings"]["verdict"]["sentence"].split(",")[0] in page
    assert str(tmp_path) not in page.replace(" ".join(["nnunet-volf", *command]), "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_that_fails_is_reported_and_does_not_stop_the_rest(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "b"
    short = ["--labels", "1", "--seeds", "2", "--epochs", "1", "--iterations", "1", "-device", "cpu", "--no-mirroring"]
    command = ["benchmark", "901", "--arms", "scratch", "-o", str(folder), *short]
    pool = make_experiment(Request("901", arms=("scratch",), seeds=2), Occurrences(tmp_path / "i.json")).cases[0].pool
    (fine,), (damaged,) = subset(pool, 1, seed=1), subset(pool, 1, seed=2)
    assert fine != damaged
    (phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres" / f"{damaged}.b2nd").write_bytes(b"gone")
    capsys.readouterr()
    assert main(command) == 1
    said = capsys.readouterr()
    assert "[2/2] scratch, 1 labels, seed 2, fold 0: failed," in said.out
    assert "failed: scratch_1labels_seed2_fold0:" in said.out
    assert (folder / "report.html").is_file()
