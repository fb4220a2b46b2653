"""One function over many items on the workers of a cluster; who comes is used, who goes is done without.

Each worker is handed an item when it is free and not before, and only this process says which: so an item is done once
unless its worker is lost, and nothing waits at a worker that is about to leave. An item whose worker was lost is done
on another, and given up when that happens too often: then it is the item. Items must bear being done twice.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from nnunet_volf.cluster.checking import Needs, marked
from nnunet_volf.cluster.connecting import UNREACHABLE, Cluster
from nnunet_volf.cluster.placing import Entry, place
from nnunet_volf.cluster.workforce import LOOK_AROUND_SECONDS, Workforce
from nnunet_volf.errors import ClusterError, VolFError

Task = TypeVar("Task")

MOST_LOSSES = 4  # as Dask itself has it: allowed-failures is 3
_TOLD = 200  # characters of what Dask says
_STOPPING_SECONDS = 5.0  # Dask itself gives a worker that does not answer half a minute
_RESULT_SECONDS = 30.0  # for a few bytes to come from a worker that has just had them


@dataclass(frozen=True)
class TryAlone:
    """Returned by the function for an item that failed, perhaps for what ran beside it: once more, alone on a machine.

    The second time it is the item's result.
    """

    reason: Any


@dataclass(frozen=True)
class Lost:
    """The result of an item with which one worker after the other was lost."""

    workers: int
    last: str


@dataclass(frozen=True)
class Ended(Generic[Task]):
    """What became of an item, and the bytes for all items on the machine where that was."""

    task: Task
    result: Any
    memory: int | None


@dataclass(frozen=True)
class _Flight:
    """An item that a worker has."""

    entry: Entry
    worker: str
    memory: int | None
    future: Any


@dataclass(frozen=True)
class _Call:
    """Unpickled, it is what the function returns: the scheduler, which may lack our packages, sees nothing of them."""

    function: Callable[[Any], Any]
    task: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (self.task,)


def run_on_workers(
    cluster: Cluster,
    function: Callable[[Task], Any],
    tasks: Iterable[Task],
    *,
    needs: Needs,
    stop: Callable[[], None],
    memory_of: Callable[[Task], int] = lambda _task: 0,
    memory: int | None = None,
    one_each: bool = False,
) -> Generator[Ended[Task], None, None]:
    """Yield what becomes of each item, in the order in which they finish. Closing the generator stops the work.

    Args:
        cluster: where it runs.
        function: a function of a module, called in a thread of a worker, which it must leave unharmed. A `VolFError`
            that it raises ends the run, any other exception is taken for a fault of the worker.
        tasks: items, taken one by one as workers get free.
        needs: what workers must see; see `Workforce`, also for `memory` and `one_each`.
        stop: called on the workers when nobody waits any more for what they do.
        memory_of: the bytes that an item needs while it runs.
        memory: bytes for all items on one machine.
        one_each: whether a worker does one item at a time, however many threads it has.
    """
    with marked(needs) as marker:
        workforce = Workforce(cluster, needs, marker, memory, one_each)
        yield from _Run(cluster, workforce, function, iter(tasks), memory_of).ended(stop)


class _Run(Generic[Task]):
    """What waits, what workers have, and what came back."""

    def __init__(
        self,
        cluster: Cluster,
        workforce: Workforce,
        function: Callable[[Task], Any],
        tasks: Iterator[Task],
        memory_of: Callable[[Task], int],
    ) -> None:
        self.cluster, self.workforce = cluster, workforce
        self.function, self.tasks, self.memory_of = function, tasks, memory_of
        self.waiting: list[Entry] = []
        self.flying: dict[str, _Flight] = {}  # by the key of the future
        self.finished: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ended(self, stop: Callable[[], None]) -> Iterator[Ended[Task]]:
        try:
            while self._read_on(1):
                with self._reaching():
                    gone = self.workforce.look()
                for flight in [flight for flight in self.flying.values() if flight.worker in gone]:
                    yield from self._lose(flight, "it left the cluster")
                with self._reaching():
                    self._hand_out()
                for future in self._finished():
                    yield from self._settle(future)
        finally:
            self._stop(stop)

    def _read_on(self, wanted: int) -> bool:
        """Have so many items waiting, if there are; return whether anything is to do or to wait for."""
        while len(self.waiting) < wanted:
            for task in self.tasks:
                self.waiting.append(Entry(task, self.memory_of(task)))
                break
            else:
                break
        return bool(self.waiting or self.flying)

    def _hand_out(self) -> None:
        machines = self.workforce.machines((flight.worker, flight.entry) for flight in self.flying.values())
        self._read_on(sum(len(machine.free) for machine in machines.values()))
        for entry, worker in place(self.waiting, machines):
            self.waiting.remove(entry)
            future = self.cluster.client.submit(
                pickle.loads,
                pickle.dumps(_Call(self.function, entry.task)),
                key=f"nnunet-volf-{secrets.token_hex(8)}",
                workers=[worker],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
            self.flying[future.key] = _Flight(entry, worker, self.workforce.memory_beside(worker), future)
            future.add_done_callback(self.finished.put)

    def _finished(self) -> Iterator[Any]:
        """Wait until something is finished, or it is time to look around again."""
        try:
            yield self.finished.get(timeout=LOOK_AROUND_SECONDS)
        except queue.Empty:  # should Dask's thread that calls back be gone
            yield from [flight.future for flight in self.flying.values() if flight.future.done()]
            return
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.finished.get_nowait()

    def _settle(self, future: Any) -> Iterator[Ended[Task]]:
        flight = self.flying.get(future.key)
        if flight is None:  # given to another worker since
            return
        try:
            result = future.result(timeout=_RESULT_SECONDS)
        except VolFError:  # no single item is to blame
            raise
        except Exception as problem:  # Dask's: the worker died with it, or somebody restarted the cluster
            how = " ".join(f"{type(problem).__name__}: {problem}".split())[:_TOLD]
            yield from self._lose(flight, how)
            self.workforce.note_fault(flight.worker, how)
            return
        self.workforce.note_success(flight.worker)
        if isinstance(result, TryAlone) and not flight.entry.alone:
            del self.flying[future.key]
            self.waiting.insert(0, replace(flight.entry, alone=True))
        else:
            yield self._end(flight, result)

    def _lose(self, flight: _Flight, how: str) -> Iterator[Ended[Task]]:
        """Have the item of a lost worker done by another; the last time but one alone, and then no more."""
        losses = flight.entry.losses + 1
        with self._reaching():
            flight.future.cancel()
        if losses >= MOST_LOSSES:
            yield self._end(flight, Lost(losses, how))
            return
        self.cluster.tell(f"{flight.worker}: {how}; what it did is done by another")
        del self.flying[flight.future.key]
        alone = flight.entry.alone or losses == MOST_LOSSES - 1
        self.waiting.insert(0, replace(flight.entry, losses=losses, alone=alone))

    def _end(self, flight: _Flight, result: Any) -> Ended[Task]:
        del self.flying[flight.future.key]
        return Ended(flight.entry.task, result, flight.memory)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Tell what to do when the scheduler is gone."""
        try:
            yield
        except UNREACHABLE as error:
            raise ClusterError(
                f"The Dask scheduler at {self.cluster.name} does not answer any more ({type(error).__name__}). What is "
                "done stays done: start a cluster again, and run the same command with its address."
            ) from error

    def _stop(self, stop: Callable[[], None]) -> None:
        """Take back what workers have, and end what they do for us; those that are gone are not waited for."""

        def take_back() -> None:
            with contextlib.suppress(Exception):
                self.cluster.client.cancel([flight.future for flight in self.flying.values()], force=True)
                self.cluster.client.run(stop, workers=self.workforce.addresses(), on_error="ignore")

        stopping = threading.Thread(target=take_back, daemon=True)
        stopping.start()
        stopping.join(_STOPPING_SECONDS)
