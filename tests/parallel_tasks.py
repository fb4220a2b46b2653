"""What the tests of parallel work let workers do; imports little, as each process imports it again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_volf.preprocessing.refusals import Refused


def square(number: int) -> int:
    return number * number


def tell_process(_number: int) -> int:
    return os.getpid()


def misbehave(task: str) -> str:
    if task == "refuse":
        raise Refused("constant", "All voxels are 3.", "Leave it out.")
    if task == "raise":
        raise ValueError("first line of /home/me/scan.nii\nsecond line")
    if task == "missing":
        Path("/home/me/nothing/here").read_text()
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "hang":
        time.sleep(300)
    return task


def allocate(task: tuple[str, int]) -> str:
    """Fill that many megabytes, of which a limit of the system lets this process have 300 more than it has now."""
    import resource

    name, megabytes = task
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 300 * 1024**2
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        np.ones(megabytes * 1024**2, np.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return name


def square_or_kill_dask_worker(task: str) -> int:
    """Take the worker of the cluster along that looks after this process."""
    if task == "kill":
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(60)
    return int(task) ** 2


def leave_quietly(_task: str) -> None:
    os._exit(0)


def die_unless_alone(task: tuple[str, int]) -> str:
    """Die at the first try of item 1; at the second, see that no other item runs."""
    folder, number = Path(task[0]), task[1]
    running = folder / f"running_{number}"
    running.touch()
    if number == 1 and not (folder / "tried").exists():
        (folder / "tried").touch()
        running.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    others = set(folder.glob("running_*")) - {running}
    time.sleep(0.3)
    others |= set(folder.glob("running_*")) - {running}
    running.unlink()
    if number == 1:
        return "second try, alone" if not others else f"not alone: {others}"
    return "fine"


def note_and_sleep(task: tuple[str, int, int, float]) -> None:
    folder, number, need, seconds = task
    start = time.time()
    time.sleep(seconds)
    (Path(folder) / str(number)).write_text(f"{start} {time.time()} {need}\n")


def annotate(task: tuple[str, int]) -> None:
    """Leave the pid of the worker; all but the first item then sleep for minutes."""
    folder, number = task
    unfinished = Path(folder).parent / f"{Path(folder).name}_{number}"
    unfinished.write_text(str(os.getpid()))
    unfinished.replace(Path(folder) / str(number))
    if number:
        time.sleep(300)


def return_unpicklable(task: str) -> Any:
    return (lambda: None) if task == "lambda" else task


class Unpicklable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse_to_unpickle, ()


def _refuse_to_unpickle() -> None:
    raise RuntimeError("not here")


def count_threads(_task: int) -> dict[str, Any]:
    return {
        "torch": sys.modules["torch"].get_num_threads(),
        "blosc2": sys.modules["blosc2"].nthreads,
        "SimpleITK": sys.modules["SimpleITK"].ProcessObject.GetGlobalDefaultNumberOfThreads(),
        "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
    }
