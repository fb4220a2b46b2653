"""Do the trainings of a benchmark that are not done yet: here, some at a time, or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_volf.benchmark.folder import FAILED, LOG, note_failure, outcome_of, run_folder
from nnunet_volf.benchmark.results import Run
from nnunet_volf.cluster.checking import Needs
from nnunet_volf.cluster.connecting import Cluster
from nnunet_volf.cluster.running import Lost, run_on_workers
from nnunet_volf.console import program
from nnunet_volf.errors import StorageError
from nnunet_volf.training_files import EXIT_STORAGE

_ENTRY = program("nnunet_volf.benchmark.training", "main")
_HANDED_ON = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer")


@dataclass(eq=False)
class Trainings:
    """The trainings of a folder, each a process of its own that can do no harm to the others."""

    folder: Path
    device: str
    environment: dict[str, str]
    stopping: threading.Event = field(default_factory=threading.Event)
    children: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def train(self, run: Run) -> None:
        """Do one training; whatever happens to it is found in its folder."""
        place = run_folder(self.folder, run)
        place.mkdir(parents=True, exist_ok=True)
        (place / FAILED).unlink(missing_ok=True)
        with (place / LOG).open("wb") as log:
            command = [sys.executable, "-c", _ENTRY, str(self.folder), run.name, self.device]
            if self.stopping.is_set():
                return
            child = subprocess.Popen(  # stdin is what it ends with, see `end_with_parent`
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.PIPE, env=self.environment
            )
            self.children.add(child)
            with child:
                code = child.wait()
            self.children.discard(child)
        if not self.stopping.is_set() and outcome_of(self.folder, run) is None:
            note_failure(self.folder, run, _reason(code, place / LOG))
            if code == EXIT_STORAGE:
                raise StorageError(f"{run.name}: {_reason(code, place / LOG)}")

    def stop(self) -> None:
        """End the trainings that are running, and begin no others."""
        self.stopping.set()
        for child in list(self.children):
            with contextlib.suppress(OSError):
                child.terminate()


_of_this_worker: set[Trainings] = set()


def train_here(folder: Path, runs: Sequence[Run], device: str, at_a_time: int) -> Iterator[Run]:
    """Do trainings on this machine, and pass each on when it has ended."""
    trainings = Trainings(folder, device, environment(device, at_a_time))
    with ThreadPoolExecutor(at_a_time) as pool:
        try:
            running: dict[Future[None], Run] = {pool.submit(trainings.train, run): run for run in runs}
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BaseException:  # also Ctrl-C, which would otherwise wait for all that is to do
            trainings.stop()
            pool.shutdown(cancel_futures=True)
            raise


def train_on_dask(
    folder: Path, runs: Sequence[Run], device: str, cluster: Cluster, inputs: Sequence[Path] = ()
) -> Iterator[Run]:
    """Do trainings on a Dask cluster, whose workers see the same folders; each worker does one at a time.

    One whose worker is lost begins again on another. One that fails by itself has failed, as it has here.
    """
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    running = run_on_workers(
        cluster,
        partial(train_there, folder, device, handed_on),
        runs,
        needs=Needs(folder, tuple(inputs)),
        stop=stop_there,
        one_each=True,
    )
    with contextlib.closing(running):
        for ended in running:
            if isinstance(ended.result, Lost):
                lost = ended.result
                run_folder(folder, ended.task).mkdir(parents=True, exist_ok=True)
                note_failure(
                    folder, ended.task, f"{lost.workers} Dask workers were lost with it; the last: {lost.last}"
                )
            yield ended.task


def train_there(folder: Path, device: str, handed_on: dict[str, str], run: Run) -> None:
    """Do one training on a Dask worker, in a process of its own as everywhere."""
    from distributed import get_worker

    variables = {**environment(device, 1), **handed_on}
    if device == "cpu":  # Dask sets it to 1 for its workers
        worker: Any = get_worker()
        variables["OMP_NUM_THREADS"] = str(worker.state.nthreads)
    trainings = Trainings(folder, device, variables)
    _of_this_worker.add(trainings)
    try:
        trainings.train(run)
    finally:
        _of_this_worker.discard(trainings)


def stop_there() -> None:
    """End what a Dask worker trains."""
    for trainings in list(_of_this_worker):
        trainings.stop()


def environment(device: str, at_a_time: int) -> dict[str, str]:
    """Return the environment of a training; what the user has set is kept."""
    wanted = {}
    if device == "cpu":
        # In the training's own process, where the arms of a seed draw the same crops; several of them share the CPUs.
        wanted["nnUNet_n_proc_DA"] = "0"
        wanted["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // at_a_time))
        wanted["nnUNet_compile"] = "0"  # takes longer on a CPU than a short training
    return {**wanted, **os.environ, "PYTHONUNBUFFERED": "1"}


def _reason(code: int, log: Path) -> str:
    """Return the last thing that a training said, which is its error message, and how it ended."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    ended = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{lines[-1].strip()[:500]} ({ended})" if lines else f"it said nothing ({ended})"
