"""A pool that several threads share: whoever waits for an item hears of its end, however the pool ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from parallel_tasks import annotate, square, tell_process
from processes import alive, wait_until

from nnunet_volf.preprocessing import pools
from nnunet_volf.preprocessing.pools import Pool

SOON = 20.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(1)
    yield pool
    pool.stop()


def test_items_of_a_pool_that_is_stopped_fail_also_the_one_that_waits(pool: Pool, tmp_path: Path) -> None:
    futures = [pool.start(annotate, (str(tmp_path), number), None) for number in (1, 2)]
    assert wait_until(lambda: (tmp_path / "1").exists(), SOON)
    pool.stop()
    assert not wait(futures, SOON).not_done
    assert {type(future.exception()) for future in futures} == {BrokenProcessPool}
    assert not alive(int((tmp_path / "1").read_text()))


def test_items_of_a_pool_that_broke_unseen_are_given_up(pool: Pool, tmp_path: Path) -> None:
    future = pool.start(annotate, (str(tmp_path), 1), None)
    assert pool._pool is not None
    pool._pool.stop()  # as pebble itself does when a worker leaves in a way that it does not understand
    assert not wait([future], 2 * pools.LOOK_AROUND_SECONDS).done
    pool.give_up_lost_items()
    problem = future.exception(SOON)
    assert isinstance(problem, BrokenProcessPool)
    pool.note(problem)
    again = pool.start(square, 3, None)
    assert pool.outcome_of(again) == 9


def test_threads_that_begin_at_once_share_the_processes(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> None:
    made = 0
    make = pools._make_pool

    def slowly(*arguments: object) -> object:
        nonlocal made
        made += 1
        time.sleep(0.2)
        return make(*arguments)

    monkeypatch.setattr(pools, "_make_pool", slowly)
    processes = []
    threads = [
        threading.Thread(target=lambda: processes.append(pool.outcome_of(pool.start(tell_process, 0, None))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert made == 1
    assert len(processes) == 4
    assert len({*processes, os.getpid()}) == 2


def test_workers_rest_only_when_nothing_is_to_do(pool: Pool, tmp_path: Path) -> None:
    busy = pool.start(annotate, (str(tmp_path), 1), None)
    assert wait_until(lambda: (tmp_path / "1").exists(), SOON)
    pool.rest()
    assert not busy.done()
    pool.stop()
    process = pool.outcome_of(pool.start(tell_process, 0, None))
    pool.rest()
    assert not alive(process)
    assert pool.outcome_of(pool.start(square, 4, None)) == 16
