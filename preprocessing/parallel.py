"""One function over many items in worker processes: bounded in flight and in memory, and no item stops the others.

A worker may die (the system kills it for memory, a reader crashes on a damaged file); its item is tried once more
with nothing else running. Whatever ends this process ends the workers: Ctrl-C, an exception, SIGTERM or SIGKILL.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as TooSlow  # another class than the builtin until Python 3.11
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Generic, TypeVar

from nnunet_volf.errors import StorageError

from .failures import Death, Room, died, too_slow
from .pools import LOOK_AROUND_SECONDS, Pool, outcome_here
from .refusals import Refused

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Task, Result]):
    """What became of an item: a result, or why there is none."""

    task: Task
    result: Result | None
    failure: Refused | None

    @classmethod
    def of(cls, task: Task, outcome: Any) -> Done[Task, Result]:
        """Tell a refusal from a result; a full disk is no fault of an item, and ends the run."""
        if isinstance(outcome, StorageError):
            raise outcome
        return cls(task, None, outcome) if isinstance(outcome, Refused) else cls(task, outcome, None)


@dataclass(frozen=True)
class _Entry:
    task: Any
    memory: int
    again: bool  # its first worker died
    since: float = 0.0  # when it was handed out, by a clock that nobody sets


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
        return (Done.of(task, outcome_here(function, task)) for task in tasks)
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
        self.function, self.tasks, self.weigh = function, tasks, weigh
        self.memory, self.timeout = memory, timeout
        # What waits in the pool could start at any time, so with a budget nothing waits there.
        self.most = workers if memory is not None else 2 * workers
        self.pool = Pool(workers, preload)
        self.flying: dict[Future[bytes], _Entry] = {}
        self.suspects: list[_Entry] = []
        self.next: _Entry | None = None

    def outcomes(self) -> Generator[Done[Task, Result], None, None]:
        try:
            while self._admit():
                finished, _ = wait(self.flying, LOOK_AROUND_SECONDS, FIRST_COMPLETED)
                if not finished:
                    self.pool.give_up_lost_items()
                for future in finished:
                    yield from self._settle(future)
        finally:
            self.pool.stop()

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
        self.flying[self.pool.start(self.function, entry.task, self.timeout)] = replace(entry, since=monotonic())

    def _settle(self, future: Future[bytes]) -> Iterator[Done[Task, Result]]:
        entry = self.flying.pop(future)
        problem = future.exception()
        if problem is None:
            yield Done.of(entry.task, self.pool.outcome_of(future))
        elif isinstance(problem, TooSlow) and monotonic() - entry.since < (self.timeout or 0.0):
            self.suspects.append(entry)  # pebble asks a clock that was set meanwhile: nothing was too slow
        elif isinstance(problem, TooSlow):
            yield Done.of(entry.task, too_slow(self.timeout))
        else:
            self.pool.note(problem)
            if entry.again:
                yield Done.of(entry.task, died(Death.of(problem), Room(entry.memory, self.memory or 0)))
            else:
                self.suspects.append(_Entry(entry.task, entry.memory, True))
