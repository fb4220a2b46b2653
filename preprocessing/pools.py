"""A pool of worker processes that may die: each with one thread, none that outlives the process that made it."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from nnunet_volf.errors import StorageError

from .failures import CannotWork, failed, no_memory_here
from .refusals import Refused

# Read by the libraries when they are loaded; a worker is one of many and keeps to one thread.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLOSC_NTHREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
LOOK_AROUND_SECONDS = 1.0  # how long Ctrl-C (on Windows) and the discovery of a lost item may take
_MOST_BROKEN_POOLS = 3
# A worker that has done so many items is replaced. Libraries lose memory with each: blosc2 4.14 the 60 kB of notes of a
# case that it writes, which in 50,000 cases would be 3 GB.
_MOST_ITEMS = 500
_STARTING = threading.Lock()


class Pool:
    """Worker processes, made when the first item comes and again after they broke. Threads may share it."""

    def __init__(self, workers: int, preload: tuple[str, ...] = ()) -> None:
        self._workers, self._preload = workers, preload
        self._pool: ProcessPool | None = None
        self._changing = threading.RLock()
        self._pending: set[Future[bytes]] = set()
        self._broken = 0  # pools in a row that broke before any item was done
        self._unattended: dict[int, float] = {}  # since when

    def start(self, function: Callable[[Any], Any], task: Any, timeout: float | None) -> Future[bytes]:
        """Hand an item out; `outcome_of` reads its future."""
        payload = pickle.dumps((function, task))
        with self._changing:
            for _ in range(_MOST_BROKEN_POOLS):
                if self._pool is None:
                    self._pool = _make_pool(self._workers, self._preload)
                try:
                    future: Future[bytes] = self._pool.schedule(_work, (payload,), timeout=timeout)
                except (RuntimeError, BrokenProcessPool):
                    self.stop()
                else:
                    self._pending.add(future)
                    future.add_done_callback(self._pending.discard)
                    return future
        raise CannotWork(_MOST_BROKEN_POOLS)

    def outcome_of(self, future: Future[bytes]) -> Any:
        """Return what the function returned, or a refusal, of an item that came to its end."""
        self._broken = 0
        return pickle.loads(future.result())

    def note(self, problem: BaseException) -> None:
        """Hear what ended an item's worker: where the whole pool broke, the next item gets a new one."""
        with self._changing:
            if not isinstance(problem, BrokenProcessPool) or self._pool is None:  # None: seen with another of its items
                return
            self.stop()
            self._broken += 1
            if self._broken >= _MOST_BROKEN_POOLS:
                raise CannotWork(_MOST_BROKEN_POOLS)

    def give_up_lost_items(self) -> None:
        """Fail items whose worker is gone without pebble's noticing.

        It overlooks a worker that leaves with exit code 0, one that dies before its receipt for the item was read, and
        items that came as the pool broke. Only those that stay so for a while, as an item may be about to be settled.
        """
        with self._changing:
            if self._pool is None:
                return
            if not self._pool.active:
                self._fail_all()
                return
            manager = self._pool._pool_manager
            items, workers = dict(manager.task_manager.tasks), dict(manager.worker_manager.workers)
            lost = {number for number, item in items.items() if item.worker_id and item.worker_id not in workers}
            now = time.monotonic()
            self._unattended = {number: self._unattended.get(number, now) for number in lost}
            for number, since in self._unattended.items():
                if now - since >= LOOK_AROUND_SECONDS / 2:
                    items[number].future.set_exception(ProcessExpired("lost"))
                    manager.task_manager.tasks.pop(number, None)

    def stop(self) -> None:
        """Stop all workers at once, whatever they do. Who waits for an item hears of it."""
        with self._changing:
            pool, self._pool = self._pool, None
            if pool is not None:
                pool.stop()
                pool.join()
                self._fail_all()  # pebble forgets them

    def rest(self) -> None:
        """End the workers if they have nothing to do, until the next item comes."""
        with self._changing:
            if not self._pending:
                self.stop()

    def _fail_all(self) -> None:
        for future in list(self._pending):
            with contextlib.suppress(InvalidStateError):  # it has just ended
                future.set_exception(BrokenProcessPool("stopped"))


def outcome_here(function: Callable[[Any], Any], task: Any) -> Any:
    """Call the function and return its result, or a refusal for whatever it raised."""
    try:
        return function(task)
    except MemoryError:
        if multiprocessing.parent_process() is None:
            return no_memory_here()
        raise  # as if the worker had been killed for it
    except (Refused, StorageError) as known:
        return known
    except Exception as error:
        return failed(error)


def _make_pool(workers: int, preload: tuple[str, ...]) -> ProcessPool:
    # System libraries of macOS may not be forked, which is why Python itself spawns there.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload([__name__, *preload])
        with _STARTING:
            _start_server()
    return ProcessPool(workers, _MOST_ITEMS, initializer=_settle_in, initargs=(preload,), context=context)


def _start_server() -> None:
    """Start the process that workers are forked from, in a folder where it finds the modules that this one has.

    Until Python 3.12.8 it looks for what it preloads in its working folder first. In a checkout of this package that
    would be a part of the package only. Workers come back here, and get this process's search path.
    """
    here = Path.cwd()
    os.chdir(Path(os.__file__).parent)
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)


def _settle_in(preload: tuple[str, ...]) -> None:
    """Prepare a worker: one thread, no life of its own, modules loaded."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"
    # Pebble's handler is Python code, which waits for the end of a long call into C.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for module in preload:
        importlib.import_module(module)
    _keep_to_one_thread()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _keep_to_one_thread() -> None:
    """Limit what was loaded before the variables were set."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "blosc2" in sys.modules:
        sys.modules["blosc2"].set_nthreads(1)
    if "SimpleITK" in sys.modules:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _work(payload: bytes) -> bytes:
    """Call the function in a worker. Bytes both ways: what cannot be unpickled would break pebble's pool."""
    try:
        function, task = pickle.loads(payload)
    except Exception as error:
        return pickle.dumps(failed(error))
    outcome = outcome_here(function, task)
    try:
        return pickle.dumps(outcome)
    except Exception as error:
        return pickle.dumps(failed(error))
