"""The second of two runs on the same output is refused, and told who is at work."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders
from filelock import FileLock
from training import DATASET, FINE_TUNER, TRAINER, make_trainer, with_fine_tuning, with_settings
from unlabeled import NAME, import_scans, write_scans

from nnunet_volf import locks
from nnunet_volf.cli import main
from nnunet_volf.locks import Held, only_one
from nnunet_volf.preprocessing.part_lock import only_part

posix = pytest.mark.skipif(os.name == "nt", reason="fork and SIGKILL")

# Holds a lock until it is killed; what it has forked lives on.
_HOLDER = """
import os, sys, time
from pathlib import Path
from nnunet_volf.locks import only_one
with only_one(Path(sys.argv[1]), "This"):
    child = os.fork() if sys.argv[2] == "fork" else -1
    if child:
        print(child, flush=True)
    time.sleep(120)
"""


@contextmanager
def held_elsewhere(lock: Path, how: str = "alone") -> Iterator[tuple[int, int]]:
    """Have another process hold a lock; pass on its number, and that of a process which it has forked."""
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(lock), how], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        yield holder.pid, child
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        if child > 0:
            os.kill(child, signal.SIGKILL)


@posix
def test_who_holds_it_is_told_and_a_process_that_is_killed_holds_nothing_though_one_it_forked_lives(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "own/lock"
    with held_elsewhere(lock, "fork") as (pid, child):
        told = rf"^This work is at work \(process {pid} on {re.escape(socket.gethostname())}, since 2\d\d\d-.*\)\. Wait"
        with pytest.raises(Held, match=told), only_one(lock, "This work"):
            pytest.fail("both hold it")
        os.kill(pid, signal.SIGKILL)
        with only_one(lock, "This work", patience=20):
            os.kill(child, 0)  # is there


def test_it_waits_for_one_that_is_about_to_end(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "lock") as (pid, _):
        began = time.monotonic()
        with pytest.raises(Held), only_one(tmp_path / "lock", "This", patience=0.3):
            pytest.fail("both hold it")
        assert time.monotonic() - began >= 0.3
        assert pid > 0


def test_it_waits_longer_for_a_machine_that_may_have_crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LEASE_SECONDS", 0.5)
    with held_elsewhere(tmp_path / "lock"):
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
        began = time.monotonic()
        with pytest.raises(Held), only_one(tmp_path / "lock", "This", patience=0.01):
            pytest.fail("both hold it")
        assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("content", ["", "half a li", "[]", '{"host": 3}'])
def test_a_lock_that_says_nothing_readable_is_a_lock_all_the_same(tmp_path: Path, content: str) -> None:
    with FileLock(tmp_path / "lock"):
        (tmp_path / "lock").write_text(content)
        with pytest.raises(Held, match=r"^This is at work\. Wait"), only_one(tmp_path / "lock", "This"):
            pytest.fail("both hold it")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_where_there_are_no_locks_it_warns_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unknown(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unknown)
    done = False
    with pytest.warns(UserWarning, match="knows no locks"), only_one(tmp_path / "lock", "This"):
        done = True
    assert done


# ------------------------------------------------------------------------------------------------- and who holds one


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("trainer_name", [TRAINER, FINE_TUNER])
def test_a_second_training_into_a_folder_is_refused_and_spoils_nothing(
    trainer_name: str, phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnunet_volf.output_folder._LEAVING_SECONDS", 0.1)
    plans = with_settings() if trainer_name == TRAINER else with_fine_tuning("Test")
    first = make_trainer(plans, trainer_name)
    folder = phantoms.results / DATASET / f"{trainer_name}__{plans}__3d_fullres" / "fold_0"
    step = first.train_step

    def step_beside_others(batch: dict[str, Any]) -> Any:
        if (first.current_epoch, first.iteration) == (1, 1):
            there = {path.name: path.read_bytes() for path in folder.glob("*.pth")}
            for resume in (False, True):
                with pytest.raises(Held, match=r"Another training into .*fold_0 is at work \(process \d+ on"):
                    make_trainer(plans, trainer_name, resume=resume).run_training()
            assert {path.name: path.read_bytes() for path in folder.glob("*.pth")} == there
            make_trainer(plans, trainer_name, fold=1).alone_in_folder().__enter__()  # another fold
            trying_out = make_trainer(plans, trainer_name)
            trying_out.disable_checkpointing = True
            with trying_out.alone_in_folder():
                pass
        return step(batch)

    first.train_step = step_beside_others
    first.run_training()
    assert (folder / "checkpoint_final.pth").is_file()
    with make_trainer(plans, trainer_name).alone_in_folder():  # it is free again
        pass


@pytest.fixture
def planned(nnunet_folders: NnUNetFolders, tmp_path: Path) -> NnUNetFolders:
    write_scans(tmp_path / "archive", 3)
    import_scans(tmp_path / "archive")
    assert main(["plan", "-d", "501", "-np", "0"]) == 0
    return nnunet_folders


def test_a_second_run_of_a_command_is_refused(
    planned: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, preprocessed = planned.raw / NAME, planned.preprocessed / NAME
    cases = preprocessed / "VolFPlans_3d_fullres"
    preprocess = ("preprocess", "-d", "501", "-np", "0")
    for lock, arguments, told in (
        (raw / "import/lock", ("import", str(tmp_path / "archive"), "-d", "501", "-np", "0"), "Another import into"),
        (
            preprocessed / ".locks/VolFPlans.plans",
            ("plan", "-d", "501", "-np", "0"),
            r"Another change of .*VolFPlans\.j",
        ),
        (
            preprocessed / f".locks/{cases.name}.0of1",
            preprocess,
            f"Another preprocessing of {NAME}, {cases.name}, part 0/1,",
        ),
        (
            preprocessed / f".locks/{cases.name}.1of3",
            preprocess,
            f"Another preprocessing of {NAME}, {cases.name}, part 1/3,",
        ),
    ):
        before = {path: path.stat().st_mtime_ns for path in (raw, preprocessed) for path in path.glob("*.json")}
        with held_elsewhere(lock) as (pid, _):
            assert main([*arguments]) == 2
            said = capsys.readouterr().err
        assert re.search(rf"{told}.* is at work \(process {pid} on .*\)\. Wait for it, or stop it\.", said), said
        assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not list(cases.glob("*"))
    assert main([*preprocess]) == 0


def test_parts_of_one_split_run_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "Dataset501_A").mkdir()
    cases = tmp_path / "Dataset501_A" / "VolFPlans_3d_fullres"
    with only_part(cases, (0, 2)), only_part(cases, (1, 2)):
        with pytest.raises(Held, match="part 0/2,"), only_part(cases, (0, 2)):
            pytest.fail("both hold it")
        with pytest.raises(Held, match=r"part [01]/2,"), only_part(cases, (2, 3)):
            pytest.fail("they share cases")
        with only_part(cases.with_name("VolFPlans_2d"), (0, 1)):
            pass
    with only_part(cases, (2, 3)):
        pass
    assert not cases.exists()


def test_settings_that_are_changed_at_once_are_all_kept(planned: NnUNetFolders) -> None:
    changes = ("epochs=7", "iterations=9")
    program = "import sys; from nnunet_volf.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "settings", "501", "-p", "VolFPlans", "--set"]
    running = [subprocess.Popen([*command, change], stdout=subprocess.DEVNULL) for change in changes]
    assert [process.wait() for process in running] == [0] * len(changes)
    plans = (planned.preprocessed / NAME / "VolFPlans.json").read_text(encoding="utf-8")
    assert [change for change in changes if change.replace("=", '": ') not in plans] == []
