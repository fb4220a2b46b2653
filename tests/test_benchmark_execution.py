"""Trainings are processes of their own: they fail alone, stop together, and run here or on a Dask cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dask_cluster import dask_cluster
from processes import alive, wait_until

from nnunet_volf.benchmark import execution
from nnunet_volf.benchmark.folder import collect, run_folder
from nnunet_volf.benchmark.results import Outcome, Run
from nnunet_volf.cluster.connecting import connected

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


@pytest.mark.skipif(os.name == "nt", reason="processes end as POSIX has it")
def test_a_training_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    training = "import os, time; from nnunet_volf.orphans import end_with_parent; end_with_parent(); "
    training += "print(os.getpid(), flush=True); time.sleep(600)"
    script = f"""
from pathlib import Path
from nnunet_volf.benchmark import execution
from nnunet_volf.benchmark.results import Run
execution._ENTRY = {training!r}
list(execution.train_here(Path({str(tmp_path)!r}), [Run("scratch", 1, 1, 0)], "cpu", 1))
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    log = run_folder(tmp_path, RUNS[0]) / "log.txt"
    assert wait_until(lambda: log.is_file() and log.read_text().strip(), seconds=60)
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not alive(int(log.read_text())), seconds=20)


@pytest.mark.filterwarnings("default")  # of Dask's own, which change with every release
def test_on_dask_the_same_trainings_give_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(execution, "_ENTRY", STAND_IN)
    monkeypatch.setenv("nnUNet_raw", "of the caller")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=3, processes=False, dashboard_address=None) as here,
        connected(here.scheduler_address, workers=0) as cluster,
    ):
        ended = list(execution.train_on_dask(tmp_path, RUNS, "cpu", cluster))
    assert sorted(run.labels for run in ended) == [1, 2, 3, 4]
    outcomes, failures = collect(tmp_path, RUNS)
    assert [outcome.run.labels for outcome in outcomes] == [1, 4]
    assert {failure.run.labels: failure.reason for failure in failures} == {
        2: "RuntimeError: CUDA out of memory (exit code 1)",
        3: f"training {RUNS[2].name} on cpu 3 of the caller (ended by signal 9)",
    }
    assert isinstance(outcomes[0], Outcome)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(os.name == "nt", reason="signals are sent as POSIX has them")
def test_a_training_whose_dask_worker_dies_begins_again_on_another(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    training = (
        "import os, sys, time; from nnunet_volf.orphans import end_with_parent; end_with_parent(); "
        "print(os.getpid(), flush=True); open(sys.argv[1] + '.pids', 'a').write(f'{os.getpid()} '); time.sleep(3)\n"
    )
    start = f"from nnunet_volf.benchmark import execution; execution._ENTRY = {training + STAND_IN!r}; "
    folder, dask = tmp_path / "benchmark", tmp_path / "dask"
    folder.mkdir()
    dask.mkdir()
    pids = Path(f"{folder}.pids")
    runs = [RUNS[0], RUNS[3]]
    with dask_cluster(dask, workers=0) as own:
        first, _ = (own.add_worker("--no-nanny", start=start) for _ in range(2))
        with connected(str(own.file), workers=0) as cluster:
            own.wait_for(2)
            killer = threading.Thread(
                target=lambda: (
                    wait_until(lambda: pids.is_file() and len(pids.read_text().split()) == 2) and first.kill()
                )
            )
            killer.start()
            ended = list(execution.train_on_dask(folder, runs, "cpu", cluster))
            killer.join()
    assert sorted(run.labels for run in ended) == [1, 4]
    outcomes, failures = collect(folder, runs)
    assert [outcome.run.labels for outcome in outcomes] == [1, 4]
    assert failures == []
    begun = [int(pid) for pid in pids.read_text().split()]
    assert len(begun) == 3, "one of the two was begun again"
    assert not any(alive(pid) for pid in begun)
