"""The workers of a cluster that may be used: who has come, who has gone, and what their machines have room for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nnunet_volf.cluster.checking import Marker, Needs, Seen, describe, inspected, require_all
from nnunet_volf.cluster.connecting import Cluster
from nnunet_volf.cluster.placing import Entry, Machine
from nnunet_volf.errors import ClusterError

LOOK_AROUND_SECONDS = 1.0  # how long it takes to see who has come and gone
_MOST_FAULTS = 3  # in a row; one may be somebody else's, who restarted the cluster
_SHARE_OF_MEMORY = 0.8  # the rest is for Dask, for the page cache, and for what an estimate misses


class Workforce:
    """The workers, by address.

    Args:
        cluster: theirs.
        needs: what they must see. A cluster with workers that do not is refused; one that comes later is not used.
        marker: tells whether they do.
        memory: bytes for all items on one machine [what its workers were given, or what is free there].
        one_each: whether a worker of several threads does one item at a time all the same.
    """

    def __init__(
        self,
        cluster: Cluster,
        needs: Needs,
        marker: Marker,
        memory: int | None,
        one_each: bool,
    ) -> None:
        self._cluster, self._needs, self._marker = cluster, needs, marker
        self._memory, self._one_each = memory, one_each
        self._seen: dict[str, Seen] = {}
        self._unfit: set[str] = set()
        self._threads: dict[str, int] = {}  # of workers that take items now
        self._available: dict[str, int] = {}  # by machine: the most that was free there
        self._faults = Counter[str]()  # in a row
        self._begun = self._waits = False
        self._next_look = 0.0

    def look(self) -> set[str]:
        """See, once a second, who has come, and return who has gone."""
        if time.monotonic() < self._next_look:
            return set()
        client = self._cluster.client
        there: dict[str, int] = client.nthreads()
        # Without those that are paused or about to leave.
        running: dict[str, int] = client.sync(client.scheduler.ncores_running)
        gone = (self._seen.keys() | self._unfit) - there.keys()
        for address in gone:
            self._seen.pop(address, None)
        self._unfit &= there.keys()
        self._admit([address for address in running if address not in self._seen and address not in self._unfit])
        self._threads = {address: threads for address, threads in running.items() if address in self._seen}
        self._tell_of_waiting()
        self._next_look = time.monotonic() + LOOK_AROUND_SECONDS
        return gone

    def machines(self, items: Iterable[tuple[str, Entry]]) -> dict[str, Machine]:
        """Return what the machines have room for while workers have these items."""
        running: dict[str, list[Entry]] = {address: [] for address in self._seen}
        for address, entry in items:
            running.setdefault(address, []).append(entry)
        members: dict[str, list[str]] = {}
        for address, worker in self._seen.items():
            members.setdefault(worker.machine, []).append(address)
        return {
            machine: Machine(
                self._memory_of(machine, addresses),
                tuple(a for a in addresses for _ in range(self._room(a) - len(running[a]))),
                tuple(entry for address in addresses for entry in running[address]),
            )
            for machine, addresses in members.items()
        }

    def memory_beside(self, address: str) -> int | None:
        """Return the bytes for all items on a worker's machine."""
        machine = self._seen[address].machine
        return self._memory_of(machine, [a for a, worker in self._seen.items() if worker.machine == machine])

    def note_success(self, address: str) -> None:
        """Hear that a worker did something."""
        self._faults.pop(address, None)

    def note_fault(self, address: str, what: str) -> None:
        """Hear that a worker failed; one that only fails is not used any more, or it would go through all there is."""
        self._faults[address] += 1
        if self._faults[address] < _MOST_FAULTS or address not in self._seen:
            return
        if len(self._seen) == 1:
            raise ClusterError(
                f"All workers of {self._cluster.name} fail, the last one with: {what}. What is done stays done; their "
                "logs may tell more."
            )
        self._cluster.tell(f"worker not used any more: {describe(address, replace(self._seen[address], problem=what))}")
        self._unfit.add(address)
        del self._seen[address]
        self._threads.pop(address, None)

    def addresses(self) -> Sequence[str]:
        """Return who is there, also who takes nothing now."""
        return list(self._seen)

    def _admit(self, addresses: list[str]) -> None:
        if not addresses:
            return
        seen = inspected(self._cluster.client, addresses, self._needs, self._marker)
        if not self._begun:
            require_all(seen, self._cluster.name)
        self._begun = self._begun or bool(seen)
        for address, worker in seen.items():
            if worker.problem:
                self._unfit.add(address)
                self._cluster.tell(f"worker not used: {describe(address, worker)}")
                continue
            self._seen[address] = worker
            if worker.available is not None:
                self._available[worker.machine] = max(self._available.get(worker.machine, 0), worker.available)

    def _tell_of_waiting(self) -> None:
        if not self._threads and not self._waits:
            self._cluster.tell("no worker takes work now; waiting for one (Ctrl-C ends this, what is done stays done)")
        self._waits = not self._threads

    def _room(self, address: str) -> int:
        threads = self._threads.get(address, 0)
        return min(threads, 1) if self._one_each else threads

    def _memory_of(self, machine: str, addresses: Sequence[str]) -> int | None:
        if self._memory is not None:
            return self._memory
        limits = [self._seen[address].limit or 0 for address in addresses]
        bounds = [sum(limits)] if all(limits) else []
        bounds += [self._available[machine]] if machine in self._available else []
        return int(_SHARE_OF_MEMORY * min(bounds)) if bounds else None
