"""Which waiting item starts on which worker: a pure function of what is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, eq=False)  # two items may look alike
class Entry:
    """An item, and what happened to it so far."""

    task: Any
    memory: int = 0  # bytes that it needs
    alone: bool = False  # it failed, perhaps for what ran beside it
    losses: int = 0  # workers that were lost with it


@dataclass(frozen=True)
class Machine:
    """What runs on a machine of the cluster, and what could."""

    memory: int | None  # bytes for all items there; None: nobody knows
    free: tuple[str, ...]  # workers, each once for every item that it could start
    running: tuple[Entry, ...] = ()

    def could_hold(self, entry: Entry) -> bool:
        """Say whether the item has room there when nothing else runs."""
        return self.memory is None or entry.memory <= self.memory

    def takes(self, entry: Entry, alone: bool) -> bool:
        """Say whether the item may start now."""
        if not self.free or any(other.alone for other in self.running):
            return False
        needed = entry.memory + sum(other.memory for other in self.running)
        return not self.running or (not alone and (self.memory is None or needed <= self.memory))

    def with_one_more(self, entry: Entry) -> Machine:
        """Return the machine as it is once the item runs on the first free worker."""
        return replace(self, free=self.free[1:], running=(*self.running, entry))


def place(waiting: Sequence[Entry], machines: Mapping[str, Machine]) -> list[tuple[Entry, str]]:
    """Return which items start on which workers now, the first in line first.

    On each machine the items that run need no more than its memory together, and one that needs more than any machine
    has runs alone on the largest, as do those that failed beside others. While an item waits for room on a machine,
    nothing else starts there; the other machines go on.
    """
    state, kept, starts = dict(machines), set[str](), list[tuple[Entry, str]]()
    for entry in waiting:
        if not any(machine.free for name, machine in state.items() if name not in kept):
            break
        able = [] if entry.alone else [name for name, machine in state.items() if machine.could_hold(entry)]
        alone = not able
        able = able or [max(state, key=lambda name: (_size(state[name]), name))]
        now = [name for name in able if name not in kept and state[name].takes(entry, alone)]
        if now:
            name = max(now, key=lambda name: (len(state[name].free), name))
            starts.append((entry, state[name].free[0]))
            state[name] = state[name].with_one_more(entry)
        else:
            kept.add(min(able, key=lambda name: (len(state[name].running), name)))
    return starts


def _size(machine: Machine) -> float:
    return float("inf") if machine.memory is None else machine.memory
