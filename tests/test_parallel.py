"""Work in other processes: what is done, what fails, what is in flight, and that nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from parallel_tasks import (
    Unpicklable,
    allocate,
    annotate,
    count_threads,
    die_unless_alone,
    leave_quietly,
    misbehave,
    note_and_sleep,
    return_unpicklable,
    square,
    tell_process,
)
from processes import alive, wait_until

from nnunet_volf.errors import DataError
from nnunet_volf.preprocessing import pools
from nnunet_volf.preprocessing.failures import describe_error
from nnunet_volf.preprocessing.parallel import Done, run_parallel
from nnunet_volf.preprocessing.refusals import Refused

TESTS = Path(__file__).parent
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def by_task(outcomes: Iterator[Done]) -> dict[object, Done]:
    return {done.task: done for done in outcomes}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_item_comes_back_with_its_result(workers: int) -> None:
    done = by_task(run_parallel(square, range(20), workers=workers))
    assert {task: d.result for task, d in done.items()} == {n: n * n for n in range(20)}
    assert all(d.failure is None for d in done.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_empty_list_is_done_at_once(workers: int) -> None:
    assert list(run_parallel(square, [], workers=workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_refusal_keeps_its_three_parts(workers: int) -> None:
    done = by_task(run_parallel(misbehave, ["refuse", "fine"], workers=workers))
    failure = done["refuse"].failure
    assert failure is not None
    assert (failure.kind, failure.reason, failure.advice) == ("constant", "All voxels are 3.", "Leave it out.")
    assert done["fine"].result == "fine"


@pytest.mark.parametrize("workers", [0, 2])
def test_another_exception_is_told_in_one_line_without_a_path(workers: int) -> None:
    done = by_task(run_parallel(misbehave, ["raise", "missing"], workers=workers))
    raised, missing = done["raise"].failure, done["missing"].failure
    assert raised is not None
    assert missing is not None
    assert raised.kind == missing.kind == "error"
    assert raised.reason == "It failed with ValueError: first line of ... second line."
    assert missing.reason == "It failed with FileNotFoundError: No such file or directory."


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("cannot open '/home/me/my scans/a.nii'", "ValueError: cannot open ..."),
        (r"cannot open C:\scans\a.nii now", "ValueError: cannot open ... now"),
        ("", "ValueError"),
        ("x" * 500, f"ValueError: {'x' * 300}..."),
    ],
)
def test_messages_are_short_and_hold_no_path(message: str, line: str) -> None:
    assert describe_error(ValueError(message)) == line


def test_results_and_items_that_do_not_travel_are_failures_of_that_item_only() -> None:
    done = by_task(run_parallel(return_unpicklable, ["lambda", "fine"], workers=1))
    assert done["lambda"].failure.kind == "error"
    assert done["fine"].result == "fine"
    (only,) = run_parallel(square, [Unpicklable()], workers=1)
    assert only.failure.kind == "error"


@posix
def test_a_worker_that_dies_costs_only_its_item(tmp_path: Path) -> None:
    done = by_task(run_parallel(misbehave, ["fine", "kill", "also", "more"], workers=2))
    failure = done["kill"].failure
    assert failure.kind == "worker"
    assert failure.reason == (
        "Its worker process ended with exit code -9, twice, the second time with nothing else running."
    )
    assert "for want of memory" in failure.advice
    assert [done[task].result for task in ("fine", "also", "more")] == ["fine", "also", "more"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux keeps them")
def test_an_item_for_which_there_is_no_memory_is_told_with_what_it_needs() -> None:
    tasks = [("small", 10), ("large", 3000)]
    done = by_task(run_parallel(allocate, tasks, workers=1, memory_of=lambda task: task[1] * 1024**2, memory=4 * 10**9))
    assert done[tasks[0]].result == "small"
    failure = done[tasks[1]].failure
    assert (failure.kind, failure.reason) == (
        "worker",
        "Its worker process ran out of memory, twice, the second time with nothing else running. It was estimated to "
        "need 3.1 GB, of 4.0 GB for all workers together.",
    )
    assert failure.advice == (
        "Close other programs, raise the limit of the job or container, or use a machine with more memory. Where it "
        "happens to many, let fewer run at once: -np, or --memory when preprocessing."
    )


@posix
def test_an_item_that_is_too_large_for_the_memory_here_is_said_to_be() -> None:
    (done,) = run_parallel(misbehave, ["kill"], workers=2, memory_of=lambda _task: 30 * 10**9, memory=8 * 10**9)
    assert done.failure.reason == (
        "Its worker process ended with exit code -9, twice, the second time with nothing else running. It was "
        "estimated to need 30.0 GB, of 8.0 GB for all workers together."
    )
    assert done.failure.advice == (
        "It is too large for the memory here: do it on a machine, or in a job or container, that may use more (what is "
        "done stays done), or plan a coarser spacing."
    )


@posix
def test_a_crash_is_told_from_a_lack_of_memory() -> None:
    (done,) = run_parallel(misbehave, ["crash"], workers=1)
    assert "ended with exit code -11, twice" in done.failure.reason
    assert done.failure.advice == (
        "That is a crash within a reader, mostly of a damaged file: copy or export it again."
    )


@posix
def test_an_item_whose_worker_died_is_tried_again_with_nothing_else_running(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), n) for n in range(6)]
    done = by_task(run_parallel(die_unless_alone, tasks, workers=2))
    assert [done[task].failure for task in tasks] == [None] * 6
    assert done[tasks[1]].result == "second try, alone"


def test_a_worker_that_leaves_quietly_is_noticed() -> None:
    started = time.monotonic()
    (done,) = run_parallel(leave_quietly, ["x"], workers=1)
    assert done.failure.kind == "worker"
    assert done.failure.reason.startswith("Its worker process ended without a word, twice")
    assert time.monotonic() - started < 20


def test_workers_that_cannot_even_begin_end_the_run_with_advice() -> None:
    with pytest.raises(DataError, match=r"ended 3 times in a row before they had done anything\. .* \(-np 0\)"):
        list(run_parallel(square, range(100), workers=1, preload=("no_module_of_this_name",)))


def test_an_item_that_takes_too_long_is_stopped_and_the_others_go_on() -> None:
    done = by_task(run_parallel(misbehave, ["hang", "fine"], workers=2, timeout=1))
    assert done["hang"].failure.kind == "timeout"
    assert done["hang"].failure.reason == "It took longer than 1 seconds and was stopped."
    assert done["fine"].result == "fine"


def take_some_of_endless_items(start: Callable[[Iterator[int]], Generator[Done, None, None]]) -> None:
    """Two workers: no more items are taken than they will soon do."""
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    outcomes = start(endless())
    for number, _ in enumerate(outcomes, start=1):
        assert taken - number <= 4
        if number == 25:
            break
    outcomes.close()


def test_items_are_only_taken_as_workers_get_free() -> None:
    take_some_of_endless_items(lambda items: run_parallel(square, items, workers=2))


def spans(folder: Path) -> list[tuple[float, float, int]]:
    """Start, end and need of each item, as the workers noted them."""
    lines = [line.split() for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]
    return [(float(start), float(end), int(need)) for start, end, need in lines]


def most_at_once(folder: Path) -> int:
    intervals = spans(folder)
    return max(sum(need for start, end, need in intervals if start <= moment < end) for moment, _, _ in intervals)


def test_items_start_only_while_their_memory_fits_and_a_larger_one_runs_alone(tmp_path: Path) -> None:
    needs = [4, 4, 4, 30, 4, 9, 2]
    tasks = [(str(tmp_path), number, need, 0.15) for number, need in enumerate(needs)]
    done = list(run_parallel(note_and_sleep, tasks, workers=3, memory_of=lambda task: task[2], memory=10))
    assert len(done) == len(needs)
    assert most_at_once(tmp_path) == 30  # the larger one, and nothing beside it
    (tmp_path / "3").unlink()
    assert 8 <= most_at_once(tmp_path) <= 10


def test_workers_keep_to_one_thread() -> None:
    (done,) = run_parallel(count_threads, [0], workers=1, preload=("torch", "blosc2", "SimpleITK"))
    assert done.result == {"torch": 1, "blosc2": 1, "SimpleITK": 1, "OMP_NUM_THREADS": "1"}


@posix
def test_closing_the_iterator_stops_all_workers_at_once(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), n) for n in range(6)]
    outcomes = run_parallel(annotate, tasks, workers=2)
    next(outcomes)  # the first returns at once, the others sleep for minutes
    assert wait_until(lambda: len(list(tmp_path.iterdir())) >= 3)
    pids = {int(file.read_text()) for file in tmp_path.iterdir()}
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < 3
    assert wait_until(lambda: not any(alive(pid) for pid in pids), 3)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_no_worker_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "from nnunet_volf.preprocessing.parallel import run_parallel; from parallel_tasks import annotate\n"
        # a shell starts what runs in the background with SIGINT ignored, and its children inherit that
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"if __name__ == '__main__': list(run_parallel(annotate, [({str(tmp_path)!r}, n) for n in range(1, 9)], "
        "workers=2))"
    )
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(TESTS)}, stderr=subprocess.PIPE, text=True
    )
    assert wait_until(lambda: len(list(tmp_path.iterdir())) >= 2), "the workers did not start"
    pids = {int(file.read_text()) for file in tmp_path.iterdir()}
    parent.send_signal(number)
    _, errors = parent.communicate(timeout=15)
    assert parent.returncode != 0
    assert wait_until(lambda: not any(alive(pid) for pid in pids), 5)
    if number == signal.SIGINT:
        assert errors.count("KeyboardInterrupt") == 1


def test_workers_are_replaced_after_so_many_items_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_MOST_ITEMS", 3)
    done = by_task(run_parallel(tell_process, range(20), workers=2))
    assert sorted(done) == list(range(20))
    assert not [d.failure for d in done.values() if d.failure]
    processes = [d.result for d in done.values()]
    assert max(map(processes.count, processes)) <= 3


def test_a_refusal_is_no_result() -> None:
    (done,) = run_parallel(misbehave, ["refuse"], workers=0)
    assert done.result is None
    assert isinstance(done.failure, Refused)
