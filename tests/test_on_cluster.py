"""Work on a real Dask cluster, whose workers are killed, retired and added meanwhile: the same comes out as here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders
from dask_cluster import DaskCluster, dask_cluster
from deadly_cases import mark_deadly, preprocess_slowly_or_die
from parallel_tasks import (
    Unpicklable,
    annotate,
    die_unless_alone,
    leave_quietly,
    misbehave,
    note_and_sleep,
    square,
    square_or_kill_dask_worker,
)
from processes import alive, wait_until
from test_parallel import by_task, most_at_once, take_some_of_endless_items
from test_preprocess import damage, files, make_dataset, run

from nnunet_volf.cluster.checking import Needs
from nnunet_volf.cluster.connecting import Cluster, connected
from nnunet_volf.errors import ClusterError
from nnunet_volf.preprocessing import preprocess as module
from nnunet_volf.preprocessing.on_cluster import run_on_cluster
from nnunet_volf.preprocessing.parallel import Done, run_parallel

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.filterwarnings("default"),  # of Dask's own, which change with every release
    pytest.mark.skipif(os.name == "nt", reason="signals are sent as POSIX has them"),
]


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Two workers of one thread."""
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=2) as started:
        yield started


@pytest.fixture
def cluster(dask: DaskCluster) -> Iterator[Cluster]:
    with connected(str(dask.file), workers=0) as connection:
        yield connection


def on(cluster: Cluster, function: Callable[..., Any], tasks: Any, folder: Path, **options: Any) -> Iterator[Done]:
    return run_on_cluster(function, tasks, cluster, needs=Needs(folder), **{"memory_of": lambda _task: 0, **options})


def told(done: dict[object, Done]) -> dict[object, Any]:
    return {
        task: d.result if d.failure is None else (d.failure.kind, d.failure.reason, d.failure.advice)
        for task, d in done.items()
    }


def test_results_and_failures_are_those_of_local_workers(cluster: Cluster, tmp_path: Path) -> None:
    tasks = ["refuse", "raise", "missing", "kill", "crash", "fine"]
    options = {"memory_of": len, "memory": 10**9}
    there = told(by_task(on(cluster, misbehave, tasks, tmp_path, **options)))
    assert there == told(by_task(run_parallel(misbehave, tasks, workers=2, **options)))
    assert [there[task][0] for task in tasks[:-1]] == ["constant", "error", "error", "worker", "worker"]
    (hung,) = on(cluster, misbehave, ["hang"], tmp_path, timeout=1)
    assert (hung.failure.kind, hung.failure.reason) == ("timeout", "It took longer than 1 seconds and was stopped.")
    assert list(tmp_path.iterdir()) == [], "a marker was left behind"


@pytest.mark.slow
def test_an_empty_list_is_done_and_items_are_only_taken_as_workers_get_free(cluster: Cluster, tmp_path: Path) -> None:
    assert list(on(cluster, square, [], tmp_path)) == []
    take_some_of_endless_items(lambda items: on(cluster, square, items, tmp_path))


def test_an_item_that_fails_beside_others_is_tried_again_alone_on_its_machine(cluster: Cluster, tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(6)]
    done = by_task(on(cluster, die_unless_alone, tasks, tmp_path))
    assert [done[task].failure for task in tasks] == [None] * 6
    assert done[tasks[1]].result == "second try, alone"


@pytest.mark.slow
def test_a_process_that_leaves_quietly_is_noticed(cluster: Cluster, tmp_path: Path) -> None:
    (done,) = on(cluster, leave_quietly, ["x"], tmp_path)
    assert done.failure.reason.startswith("Its worker process ended without a word, twice")


def test_items_on_a_machine_keep_within_its_memory(cluster: Cluster, tmp_path: Path) -> None:
    needs = [6, 6, 30, 4, 4]
    tasks = [(str(tmp_path), number, need, 0.3) for number, need in enumerate(needs)]
    options = {"memory_of": lambda task: task[2], "memory": 10}
    assert len(list(on(cluster, note_and_sleep, tasks, tmp_path.parent, **options))) == len(needs)
    assert most_at_once(tmp_path) == 30  # the larger one, and nothing beside it
    (tmp_path / "2").unlink()
    assert most_at_once(tmp_path) <= 10


def test_closing_the_iterator_stops_the_work_and_leaves_the_workers(
    cluster: Cluster, dask: DaskCluster, tmp_path: Path
) -> None:
    workers = dask.workers()
    outcomes = on(cluster, annotate, [(str(tmp_path), number) for number in range(6)], tmp_path.parent)
    next(outcomes)  # the first returns at once, the others sleep for minutes
    assert wait_until(lambda: len(list(tmp_path.iterdir())) >= 2)
    pids = {int(file.read_text()) for file in tmp_path.iterdir()}
    outcomes.close()
    assert wait_until(lambda: not any(alive(pid) for pid in pids), 5)
    assert dask.workers() == workers


def test_workers_that_cannot_do_it_are_named_before_anything_is_begun(
    dask: DaskCluster, cluster: Cluster, tmp_path: Path
) -> None:
    other = (
        "import importlib.metadata as m; v = m.version; "
        "m.version = lambda name: '0.0.9' if name == 'nnunet-volf' else v(name); "
    )
    without = "import sys; sys.modules['nnunet_volf'] = None; "
    unfit = [dask.add_worker("--no-nanny", start=start) for start in (other, without)]
    try:
        dask.wait_for(4)
        with pytest.raises(ClusterError) as refused:
            list(on(cluster, square, [1], tmp_path))
    finally:
        for worker in unfit:
            worker.terminate()
        for worker in unfit:
            worker.wait(30)
    text = str(refused.value)
    assert text.startswith(f"2 of the 4 Dask workers at {dask.file} cannot do this:\n  tcp://127.0.0.1:")
    assert f": has nnunet-volf 0.0.9, and this command {_version()}" in text
    assert ": cannot import nnunet_volf (" in text
    assert text.endswith("see the same files by the same paths. Nothing was begun.")


def _version() -> str:
    from importlib.metadata import version

    return version("nnunet-volf")


def _can_hide_folders() -> bool:
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"]
    return sys.platform == "linux" and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _can_hide_folders(), reason="needs unshare and the right to mount")
def test_a_worker_that_comes_later_and_does_not_see_the_folder_is_not_used(
    dask: DaskCluster, cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spans = tmp_path / "spans"
    spans.mkdir()
    outcomes = on(cluster, note_and_sleep, [(str(spans), number, 1, 0.2) for number in range(400)], tmp_path)
    next(outcomes)
    hide = ("unshare", "-rm", "sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh")
    blind = dask.add_worker("--no-nanny", before=hide)
    said = ""
    for done in outcomes:
        assert done.failure is None
        said += capfd.readouterr().err
        if "not used" in said:
            break
    outcomes.close()
    blind.terminate()
    blind.wait(30)
    assert "worker not used: tcp://127.0.0.1:" in said
    assert f": does not see {tmp_path} as this command does" in said


@pytest.mark.slow
def test_a_worker_that_only_fails_does_not_go_through_all_there_is(
    dask: DaskCluster, cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = dask.add_worker("--no-nanny", start="import sys; sys.modules['nnunet_volf.preprocessing'] = None; ")
    dask.wait_for(3)
    try:
        done = list(on(cluster, square, range(20), tmp_path))
    finally:
        broken.terminate()
        broken.wait(30)
    assert sorted(d.result for d in done) == [number**2 for number in range(20)]
    said = capfd.readouterr().err
    assert said.count("; what it did is done by another") == 3
    assert said.count("worker not used any more: tcp://127.0.0.1:") == 1


@pytest.mark.slow
def test_a_run_that_ends_takes_nothing_from_another_on_the_same_workers(
    dask: DaskCluster, cluster: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "spans"
    folder.mkdir()
    tasks = [(str(folder), 0, 0, 1.5), (str(folder), 1, 0, 6.0)]  # for the first worker and the second
    with ThreadPoolExecutor() as threads:
        longer = threads.submit(lambda: list(on(cluster, note_and_sleep, tasks, tmp_path)))
        assert wait_until((folder / "0").exists, 60)
        other_began = time.time()
        with connected(str(dask.file), workers=0) as another:
            assert [done.result for done in on(another, square, [3], tmp_path)] == [9]
        assert not (folder / "1").exists()
        assert [done.failure for done in longer.result(60)] == [None, None]
    assert float((folder / "1").read_text().split()[0]) < other_began, "it was done again"


@pytest.mark.slow
def test_a_cluster_of_which_all_workers_fail_ends_the_run(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"All workers of .* fail, the last one with: RuntimeError: not here"):
        list(on(cluster, square, [Unpicklable() for _ in range(20)], tmp_path))


class Disturber(threading.Thread):
    """Kills a worker, adds one and retires one, as work gets on."""

    def __init__(self, dask: DaskCluster, progress: Callable[[], int]) -> None:
        super().__init__()
        self.dask, self.progress, self.deeds = dask, progress, 0
        self.start()

    def run(self) -> None:
        first, second = self.dask.workers().items()
        deeds = (
            (2, lambda: os.kill(first[1], signal.SIGKILL)),  # its nanny starts another
            (4, self.dask.add_worker),
            (7, lambda: _retire(self.dask, second[0])),
        )
        for items, deed in deeds:
            if wait_until(lambda items=items: self.progress() >= items, 400):
                deed()
                self.deeds += 1


def test_every_item_is_done_once_however_many_workers_die_leave_and_come(
    dask: DaskCluster, cluster: Cluster, tmp_path: Path
) -> None:
    tasks = [(str(tmp_path), number, 1, 1.0) for number in range(14)]
    disturbing = Disturber(dask, lambda: len(list(tmp_path.iterdir())))
    done = list(on(cluster, note_and_sleep, tasks, tmp_path.parent))
    disturbing.join()
    assert disturbing.deeds == 3
    assert sorted(d.task for d in done) == tasks
    assert [d.failure for d in done] == [None] * 14


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_preprocessed_is_the_same_however_many_workers_die_leave_and_come(
    tmp_path: Path, nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_preprocess", preprocess_slowly_or_die)
    dataset, planned = make_dataset(nnunet_folders, 14)
    damage(dataset, 1)
    mark_deadly(dataset.cases[2].images[0])
    local = run(dataset, planned, workers=2, memory=2 * 10**9)
    expected, quarantine = files(planned), (planned.folder / "quarantine_nnUNetPlans_x.csv").read_text()
    folder = planned.folder / "nnUNetPlans_x"
    for name in expected:
        (folder / name).unlink()
    with dask_cluster(tmp_path, workers=2) as own, connected(own.address, workers=0) as cluster:
        disturbing = Disturber(own, lambda: len(list(folder.glob("*.b2nd"))))
        summary = run(dataset, planned, cluster=cluster, memory=2 * 10**9)
        disturbing.join()
    assert disturbing.deeds == 3
    assert files(planned) == expected
    assert (planned.folder / "quarantine_nnUNetPlans_x.csv").read_text() == quarantine
    for name in ("written", "bytes_written", "missing"):
        assert getattr(summary, name) == getattr(local, name)
    assert sorted(map(str, summary.refused)) == sorted(map(str, local.refused))
    assert {line.kind for line in summary.refused} == {"worker", "unreadable"}


def _retire(dask: DaskCluster, address: str) -> None:
    with dask.client() as client:
        client.retire_workers([address])


@pytest.mark.slow
def test_an_item_that_takes_its_dask_worker_along_each_time_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    done = by_task(on(cluster, square_or_kill_dask_worker, ["kill", "2", "3"], tmp_path))
    assert (done["2"].result, done["3"].result) == (4, 9)
    assert done["kill"].failure.kind == "worker"
    assert done["kill"].failure.reason == (
        "4 workers of the cluster were lost with it, one after the other; of the last: it left the cluster."
    )


@pytest.mark.slow
def test_a_scheduler_that_goes_away_ends_the_run_with_what_is_done(tmp_path: Path) -> None:
    folder, spans = tmp_path / "dask", tmp_path / "spans"
    folder.mkdir()
    spans.mkdir()
    with dask_cluster(folder, workers=1) as own, connected(own.address, workers=0) as cluster:
        outcomes = on(cluster, note_and_sleep, [(str(spans), n, 1, 0.2) for n in range(500)], tmp_path)
        next(outcomes)
        own.processes[0].kill()
        started = time.monotonic()
        with pytest.raises(
            ClusterError, match=r"The Dask scheduler at tcp://.* does not answer any more .* What is done"
        ):
            list(outcomes)
        assert time.monotonic() - started < 60


def test_an_address_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterError, match=r"--dask .*nothing\.json: there is no such file"),
        connected(str(tmp_path / "nothing.json"), workers=1),
    ):
        pass


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'nnunet-volf\[dask\]'"), connected("local", workers=1):
        pass
