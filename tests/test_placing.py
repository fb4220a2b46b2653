"""Which item starts on which worker: within the memory of each machine, nobody twice, and everybody in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.cluster.placing import Entry, Machine, place

entries = st.builds(
    Entry, task=st.none(), memory=st.integers(0, 12), alone=st.sampled_from([False, False, False, True])
)


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, Machine]:
    """Machines with workers of one to three threads, on which nothing runs."""
    machines = {}
    for name in draw(st.sampled_from(["a", "ab", "abc"])):
        workers = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        free = tuple(f"{name}{number}" for number, threads in enumerate(workers) for _ in range(threads))
        machines[name] = Machine(draw(st.one_of(st.none(), st.integers(1, 10))), free)
    return machines


def started(machines: dict[str, Machine], starts: list[tuple[Entry, str]]) -> dict[str, Machine]:
    """The machines once the items run."""
    machines = dict(machines)
    for entry, worker in starts:
        machine = machines[worker[0]]
        assert worker in machine.free, "a worker was handed more than it has threads"
        free = list(machine.free)
        free.remove(worker)
        machines[worker[0]] = replace(machine, free=tuple(free), running=(*machine.running, entry))
    return machines


def check(machines: dict[str, Machine]) -> None:
    largest = max(float("inf") if m.memory is None else m.memory for m in machines.values())
    for machine in machines.values():
        together = len(machine.running) > 1
        assert not (together and any(entry.alone for entry in machine.running))
        if machine.memory is not None:
            assert not together or sum(entry.memory for entry in machine.running) <= machine.memory
        if any(entry.alone for entry in machine.running):
            assert machine.memory is None or machine.memory == largest


@given(clusters(), st.lists(entries, max_size=20), st.randoms(use_true_random=False))
def test_every_item_runs_once_within_the_memory_of_its_machine(
    machines: dict[str, Machine], items: list[Entry], random: object
) -> None:
    waiting, ran = list(items), Counter[int]()
    for _ in range(3 * len(items) + 1):
        starts = place(waiting, machines)
        for entry, _ in starts:
            ran[id(entry)] += 1
            waiting.remove(entry)
        machines = started(machines, starts)
        check(machines)
        running = [(name, entry) for name, machine in machines.items() for entry in machine.running]
        assert running or not waiting, "nothing runs and something waits"
        if not running:
            break
        name, entry = random.choice(running)
        machine = machines[name]
        machines[name] = replace(
            machine,
            free=(*machine.free, f"{name}0"),
            running=tuple(other for other in machine.running if other is not entry),
        )
    assert ran == Counter({id(entry): 1 for entry in items})


def test_a_large_item_waits_for_its_machine_which_small_ones_do_not_keep_from_it() -> None:
    busy = Machine(10, ("a0",), (Entry("running", 4),))
    small = Machine(3, ("b0",))
    large, little, more = Entry("large", 8), Entry("little", 1), Entry("more", 1)
    assert place([large, little, more], {"a": busy, "b": small}) == [(little, "b0")]


def test_an_item_larger_than_every_machine_runs_alone_on_the_largest() -> None:
    machines = {"a": Machine(10, ("a0", "a1")), "b": Machine(5, ("b0",))}
    huge, little = Entry("huge", 99), Entry("little", 1)
    assert place([huge, little], machines) == [(huge, "a0"), (little, "b0")]


def test_where_nobody_knows_the_memory_workers_alone_decide() -> None:
    first, second, third = (Entry(n, 10**12) for n in range(3))
    assert place([first, second, third], {"a": Machine(None, ("a0", "a1"))}) == [(first, "a0"), (second, "a1")]


def test_without_workers_nothing_starts() -> None:
    assert place([Entry("x")], {}) == []
