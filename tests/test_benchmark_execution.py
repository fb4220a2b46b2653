"""Trainings are processes of their own: they fail alone, stop together, and run here or on a Dask cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import alive, wait_until

from nnunet_volf.benchmark import execution
from nnunet_volf.benchmark.folder import collect, run_folder
from nnunet_volf.benchmark.results import Outcome, Run

RUNS = [Run("scratch", labels, 1, 0) for labels in (1, 2, 3, 4)]

# In place of a training: writes a result, but for 2 labels (an error) and 3 labels (killed).
STAND_IN = """
import json, os, pathlib, signal, sys
folder, name, device = sys.argv[1:]
labels = int(name.split("_")[1].removesuffix("labels"))
print("training", name, "on", device, os.environ["OMP_NUM_THREADS"], os.environ.get("nnUNet_raw"), flush=True)
if labels == 2:
    raise RuntimeError("CUDA out of memory")
if labels == 3:
    os.kill(os.getpid(), signal.SIGKILL)
run = {"arm": "scratch", "labels": labels, "seed": 1, "fold": 0, "rate": 1.0}
result = {"run": run, "training_cases": [], "scores": [], "curve": [0.5], "seconds": 1.0, "conditions": {}}
(pathlib.Path(folder) / "runs" / name / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_ENTRY", STAND_IN)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("at_a_time", [1, 3])
def test_a_training_that_fails_is_noted_with_its_reason_and_the_others_go_on(tmp_path: Path, at_a_time: int) -> None:
    ended = list(execution.train_here(tmp_path, RUNS, "cpu", at_a_time))
    assert sorted(run.labels for run in ended) == [1, 2, 3, 4]
    outcomes, failures = collect(tmp_path, RUNS)
    assert [outcome.run.labels for outcome in outcomes] == [1, 4]
    reasons = {failure.run.labels: failure.reason for failure in failures}
    assert reasons[2] == "RuntimeError: CUDA out of memory (exit code 1)"
    assert reasons[3].endswith("(ended by signal 9)")
    assert "Traceback" in (run_folder(tmp_path, RUNS[1]) / "log.txt").read_text()


def test_a_failed_training_is_tried_again_and_its_failure_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_ENTRY", STAND_IN)
    list(execution.train_here(tmp_path, RUNS[:2], "cpu", 1))
    monkeypatch.setattr(execution, "_ENTRY", STAND_IN.replace("labels == 2", "False"))
    list(execution.train_here(tmp_path, RUNS[1:2], "cpu", 1))
    outcomes, failures = collect(tmp_path, RUNS)
    assert [outcome.run.labels for outcome in outcomes] == [1, 2]
    assert failures == []


@pytest.mark.usefixtures("stand_in")
def test_the_rest_is_not_begun_when_the_caller_stops(tmp_path: Path) -> None:
    ended = execution.train_here(tmp_path, [RUNS[0]] + [Run("volf", n, 1, 0) for n in range(10, 60)], "cpu", 1)
    next(ended)
    ended.close()  # what an error or Ctrl-C between two trainings comes to
    assert len(list((tmp_path / "runs").iterdir())) < 10


@pytest.mark.skipif(os.name == "nt", reason="signals are sent as POSIX has them")
def test_ctrl_c_ends_the_running_trainings_too(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where shells ignore it
from pathlib import Path
from nnunet_volf.benchmark import execution
from nnunet_volf.benchmark.results import Run
execution._ENTRY = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
for run in execution.train_here(Path({str(tmp_path)!r}), [Run("scratch", n, 1, 0) for n in range(3)], "cpu", 2):
    pass
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    logs = [tmp_path / "runs" / f"scratch_{n}labels_seed1_fold0" / "log.txt" for n in (0, 1)]
    assert wait_until(lambda: all(log.is_file() and log.read_text().strip() for log in logs), seconds=60)
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    children = [int(log.read_text()) for log in logs]
    assert wait_until(lambda: not any(alive(child) for child in children), seconds=60)
    assert not (tmp_path / "runs" / "scratch_2labels_seed1_fold0" / "log.txt").exists()
    assert collect(tmp_path, [Run("scratch", n, 1, 0) for n in range(3)]) == ([], [])


def test_on_a_cpu_trainings_share_the_cores_and_what_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "nnUNet_n_proc_DA", "nnUNet_compile"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert execution.environment("cpu", 2)["OMP_NUM_THREADS"] == "4"
    assert execution.environment("cpu", 16)["OMP_NUM_THREADS"] == "1"
    assert execution.environment("cpu", 1)["nnUNet_n_proc_DA"] == "0"
    assert "nnUNet_n_proc_DA" not in execution.environment("cuda", 1)
    monkeypatch.setenv("nnUNet_n_proc_DA", "6")
    assert execution.environment("cpu", 1)["nnUNet_n_proc_DA"] == "6"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Dask's own, which change with every release
def test_on_dask_the_same_trainings_give_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(execution, "_ENTRY", STAND_IN)
    monkeypatch.setenv("nnUNet_raw", "of the caller")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        ended = list(execution.train_on_dask(tmp_path, RUNS, "cpu", cluster.scheduler_address))
    assert sorted(run.labels for run in ended) == [1, 2, 3, 4]
    outcomes, failures = collect(tmp_path, RUNS)
    assert [outcome.run.labels for outcome in outcomes] == [1, 4]
    assert {failure.run.labels for failure in failures} == {2, 3}
    assert "of the caller" in (run_folder(tmp_path, RUNS[0]) / "log.txt").read_text()
    assert isinstance(outcomes[0], Outcome)
