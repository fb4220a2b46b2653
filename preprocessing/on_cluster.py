"""As `parallel`, on a Dask cluster: what is handed to a worker is done in a process that the worker looks after.

So an item that crashes, hangs or takes too much memory costs its own process, and the worker tells how that ended; and
the worker itself stays small, answers, and computes with one thread for each of its own.
"""

from __future__ import annotations

import multiprocessing
import pickle
import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import TimeoutError as TooSlow
from concurrent.futures import wait
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from nnunet_volf.cluster.checking import Needs
from nnunet_volf.cluster.connecting import Cluster
from nnunet_volf.cluster.running import Ended, Lost, TryAlone, run_on_workers

from .failures import CannotWork, Death, Room, died, lost, too_slow
from .parallel import Done
from .pools import LOOK_AROUND_SECONDS, Pool

Task = TypeVar("Task")
Result = TypeVar("Result")

_pools: dict[str, Pool] = {}  # of a worker, by run
_making = threading.Lock()


def run_on_cluster(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    cluster: Cluster,
    *,
    needs: Needs,
    memory_of: Callable[[Task], int],
    memory: int | None = None,
    timeout: float | None = None,
    preload: Sequence[str] = (),
) -> Generator[Done[Task, Result], None, None]:
    """Yield what becomes of each item, as `run_parallel` does, whose arguments these are.

    Args:
        function: see there.
        tasks: see there.
        cluster: whose workers do it, as many items at a time as they have threads.
        needs: what workers must see.
        memory_of: see there.
        memory: bytes for the items on one machine together [what its workers were given, or what is free there].
        timeout: see there.
        preload: see there.
    """
    run = secrets.token_hex(8)
    there, stop = partial(_do, run, function, timeout, tuple(preload)), partial(_stop, run)
    running = run_on_workers(cluster, there, tasks, needs=needs, stop=stop, memory_of=memory_of, memory=memory)
    with closing(running):
        for ended in running:
            yield Done.of(ended.task, _outcome(ended, memory_of))


def _outcome(ended: Ended[Task], memory_of: Callable[[Task], int]) -> Any:
    result = ended.result
    if isinstance(result, Lost):
        return lost(result.workers, result.last)
    if isinstance(result, TryAlone):
        return died(result.reason, Room(memory_of(ended.task), ended.memory or 0))
    return pickle.loads(result)


def _do(
    run: str, function: Callable[[Any], Any], timeout: float | None, preload: tuple[str, ...], task: Any
) -> bytes | TryAlone:
    """Have a process of this worker do an item, and return what it returned as bytes."""
    try:
        pool = _pool(run, preload)
        future = pool.start(function, task, timeout)
        while not wait([future], LOOK_AROUND_SECONDS).done:
            pool.give_up_lost_items()
        problem = future.exception()
        if problem is None:
            return pickle.dumps(pool.outcome_of(future))
        if isinstance(problem, TooSlow):
            return pickle.dumps(too_slow(timeout))
        pool.note(problem)
    except CannotWork as error:  # here; perhaps others can
        raise RuntimeError(str(error)) from error
    return TryAlone(Death.of(problem))


def _pool(run: str, preload: tuple[str, ...]) -> Pool:
    from distributed import get_worker

    with _making:
        if run not in _pools:
            for pool in _pools.values():  # of runs that were killed, or have nothing to do here now
                pool.rest()
            # Dask starts workers as daemons, which may have no children. Ours end with it by themselves.
            multiprocessing.current_process().daemon = False
            worker: Any = get_worker()
            _pools[run] = Pool(worker.state.nthreads, preload)
        return _pools[run]


def _stop(run: str) -> None:
    """End what a run does here; that of another, which may have begun meanwhile, is its own."""
    with _making:
        pool = _pools.pop(run, None)
    if pool is not None:
        pool.stop()
