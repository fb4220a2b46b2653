"""One function over many items in worker processes: bounded in flight and in memory, and no item stops the others.

A worker may die (the system kills it for memory, a reader crashes on a damaged file); its item is tried once more
with nothing else running. Whatever ends this process ends the workers: Ctrl-C, an exception, SIGTERM or SIGKILL.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as TooSlow  # another class than the builtin until Python 3.11
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from nnunet_volf.errors import DataError

from .refusals import Refused

Task = TypeVar("Task")
Result = TypeVar("Result")

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
_LOOK_AROUND_SECONDS = 1.0  # how long Ctrl-C (on Windows) and the discovery of a lost item may take
_MOST_BROKEN_POOLS = 3
_PATH = re.compile(r"""'[^']*[/\\][^']*'|"[^"]*[/\\][^"]*"|\S*[/\\]\S*""")
_MESSAGE_LENGTH = 300


@dataclass(frozen=True)
class Done(Generic[Task, Result]):
    """What became of an item: a result, or why there is none."""

    task: Task
    result: Result | None
    failure: Refused | None


@dataclass(frozen=True)
class _Entry:
    task: Any
    memory: int
    again: bool  # its first worker died


def run_parallel(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    memory_of: Callable[[Task], int] | None = None,
    memory: int | None = None,
    timeout: float | None = None,
    preload: Sequence[str] = (),
) -> Generator[Done[Task, Result], None, None]:
    """Yield what becomes of each item, in the order in which they finish. Closing the generator stops the workers.

    Args:
        function: a function of a module, called in a worker. It refuses an item by raising `Refused`; any other
            exception is a failure of the kind "error".
        tasks: items, taken one by one as workers get free: millions are fine. They travel to the worker and back, so
            they are small. Workers do not see later changes of ``os.environ``: paths belong into the items.
        workers: number of processes; 0 calls the function in this process.
        memory_of: the bytes that an item needs while it runs.
        memory: items only start while the sum of what they need stays within this. One that needs more runs alone.
        timeout: seconds after which an item's worker is stopped and the item fails with the kind "timeout".
        preload: modules to import once, before the first item.
    """
    if workers == 0:
        return (_done(task, _outcome(function, task)) for task in tasks)
    weigh = memory_of or (lambda _task: 0)
    return _Run(function, iter(tasks), workers, weigh, memory, timeout, tuple(preload)).outcomes()


class _Run(Generic[Task, Result]):
    """A run with its pool, what is in flight, and what waits for being tried again."""

    def __init__(
        self,
        function: Callable[[Task], Result],
        tasks: Iterator[Task],
        workers: int,
        weigh: Callable[[Task], int],
        memory: int | None,
        timeout: float | None,
        preload: tuple[str, ...],
    ) -> None:
        self.function, self.tasks, self.workers, self.weigh = function, tasks, workers, weigh
        self.memory, self.timeout, self.preload = memory, timeout, preload
        # What waits in the pool could start at any time, so with a budget nothing waits there.
        self.most = workers if memory is not None else 2 * workers
        self.pool: ProcessPool | None = None
        self.flying: dict[Future[bytes], _Entry] = {}
        self.suspects: list[_Entry] = []
        self.next: _Entry | None = None
        self.broken = 0  # pools in a row that broke before any item was done
        self.unattended: set[int] = set()

    def outcomes(self) -> Generator[Done[Task, Result], None, None]:
        try:
            while self._admit():
                finished, _ = wait(self.flying, _LOOK_AROUND_SECONDS, FIRST_COMPLETED)
                if not finished:
                    self._give_up_lost_items()
                for future in finished:
                    yield from self._settle(future)
        finally:
            self._stop()

    def _admit(self) -> bool:
        """Hand out what may start now; return whether anything is in flight."""
        while True:
            if self.suspects:
                if not self.flying:
                    self._start(self.suspects.pop(0))
                return True
            if self.next is None:
                for task in self.tasks:
                    self.next = _Entry(task, self.weigh(task), False)
                    break
                else:
                    return bool(self.flying)
            needed = self.next.memory + sum(entry.memory for entry in self.flying.values())
            alone = any(entry.again for entry in self.flying.values())
            too_much = self.memory is not None and needed > self.memory
            if self.flying and (alone or too_much or len(self.flying) >= self.most):
                return True
            entry, self.next = self.next, None
            self._start(entry)

    def _start(self, entry: _Entry) -> None:
        payload = pickle.dumps((self.function, entry.task))
        for _ in range(_MOST_BROKEN_POOLS):
            if self.pool is None:
                self.pool = _make_pool(self.workers, self.preload)
            try:
                self.flying[self.pool.schedule(_work, (payload,), timeout=self.timeout)] = entry
                return
            except (RuntimeError, BrokenProcessPool):
                self._stop()
        raise _cannot_work()

    def _settle(self, future: Future[bytes]) -> Iterator[Done[Task, Result]]:
        entry = self.flying.pop(future)
        problem = future.exception()
        if problem is None:
            self.broken = 0
            yield _done(entry.task, pickle.loads(future.result()))
        elif isinstance(problem, TooSlow):
            yield _done(entry.task, _too_slow(self.timeout))
        else:
            if isinstance(problem, BrokenProcessPool):
                self._pool_broke()
            if entry.again:
                yield _done(entry.task, _died(problem))
            else:
                self.suspects.append(_Entry(entry.task, entry.memory, True))

    def _pool_broke(self) -> None:
        if self.pool is None:  # seen with another item of the same pool
            return
        self._stop()
        self.broken += 1
        if self.broken >= _MOST_BROKEN_POOLS:
            raise _cannot_work()

    def _give_up_lost_items(self) -> None:
        """Fail items whose worker is gone without pebble's noticing.

        It overlooks a worker that leaves with exit code 0, and one that dies before its receipt for the item was
        read. Twice in a row, as an item may be about to be settled.
        """
        if self.pool is None:
            return
        manager = self.pool._pool_manager
        items, workers = dict(manager.task_manager.tasks), dict(manager.worker_manager.workers)
        unattended = {number for number, item in items.items() if item.worker_id and item.worker_id not in workers}
        for number in unattended & self.unattended:
            items[number].future.set_exception(ProcessExpired("lost"))
            manager.task_manager.tasks.pop(number, None)
        self.unattended = unattended

    def _stop(self) -> None:
        """Stop all workers at once, whatever they do."""
        if self.pool is not None:
            pool, self.pool = self.pool, None
            pool.stop()
            pool.join()


def _make_pool(workers: int, preload: tuple[str, ...]) -> ProcessPool:
    # System libraries of macOS may not be forked, which is why Python itself spawns there.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload([__name__, *preload])
        _start_server()
    return ProcessPool(workers, initializer=_settle_in, initargs=(preload,), context=context)


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
        return pickle.dumps(_error(error))
    outcome = _outcome(function, task)
    try:
        return pickle.dumps(outcome)
    except Exception as error:
        return pickle.dumps(_error(error))


def _outcome(function: Callable[[Any], Any], task: Any) -> Any:
    try:
        return function(task)
    except MemoryError:
        if multiprocessing.parent_process() is None:
            return _died(None)
        raise  # as if the worker had been killed for it
    except Refused as refused:
        return refused
    except Exception as error:
        return _error(error)


def _done(task: Any, outcome: Any) -> Done[Any, Any]:
    return Done(task, None, outcome) if isinstance(outcome, Refused) else Done(task, outcome, None)


def describe_error(error: BaseException) -> str:
    """Return the type and message of an exception in one line, without paths."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(_PATH.sub("...", text).split())
    if len(line) > _MESSAGE_LENGTH:
        line = f"{line[:_MESSAGE_LENGTH]}..."
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _error(error: Exception) -> Refused:
    return Refused(
        "error",
        f"It failed with {describe_error(error)}.",
        "Look at the file with another program. If it opens there, please report this message.",
    )


def _died(problem: BaseException | None) -> Refused:
    code = getattr(problem, "exitcode", None)
    ended = f"ended with exit code {code}" if code else "ended without a word"
    return Refused(
        "worker",
        f"Its worker process {ended}, twice, the second time with nothing else running."
        if problem is not None
        else "There was not enough memory for it.",
        "Most often memory ran out (exit code -9): close other programs or use a machine with more. Exit code -11 is a "
        "crash in a reader, mostly of a damaged file.",
    )


def _too_slow(timeout: float | None) -> Refused:
    return Refused(
        "timeout",
        f"It took longer than {timeout:g} seconds and was stopped.",
        "Look whether the storage answers, and whether the file is far larger than the others; then run again.",
    )


def _cannot_work() -> DataError:
    return DataError(
        f"Worker processes ended {_MOST_BROKEN_POOLS} times in a row before they had done anything. Try fewer workers "
        "(-np), or none (-np 0), which shows the error itself."
    )
