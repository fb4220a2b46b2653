"""An import that is killed, anywhere, any number of times, and run again ends as one that was left in peace."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import archives
import dicoms
import numpy as np
import pytest

from nnunet_volf.cli import main
from nnunet_volf.preprocessing.journal import Journal

NAME = "Dataset501_Archive"
ARGUMENTS = (
    *("-d", "501", "--for", "4", "--time", "mean", "--grids", "resample", "--most-refused", "1"),
    *("--channels", "A=*_a.*", "B=*_b.*"),
)
OUTPUTS = ("dataset.json", "import/manifest.jsonl", "import/quarantine.csv")


def write_archive(folder: Path) -> None:
    """Pairs of images: good, on two grids, over time, as DICOM in two folders, known, duplicate, and broken."""
    for number, ending in enumerate((".nii.gz", ".nrrd", ".nii", ".mha")):
        for channel in (0, 1):
            write = archives.write_nifti if "nii" in ending else archives.write_itk
            write(make(folder / f"p{number}_{'ab'[channel]}{ending}"), archives.body(2 * number + channel))
    archives.write_nifti(folder / "grids_a.nii.gz", archives.body(20))
    archives.write_nifti(folder / "grids_b.nii.gz", archives.body(21, (20, 22, 24)))
    archives.write_nifti(folder / "film_a.nii.gz", np.stack([archives.body(22), archives.body(23)]))
    archives.write_nifti(folder / "film_b.nii.gz", archives.body(24))
    for channel in "ab":
        shutil.copy(folder / f"p1_{channel}.nrrd", folder / f"twice_{channel}.nrrd")
    for number, fault in enumerate(archives.faults()[::4]):
        fault.write(make(folder / f"faults/{number}_a{fault.ending}"))
    voxels, at, uid = dicoms.phantom((16, 12, 10)), dicoms.positions(16), dicoms.generate_uid()
    one = {"series_uid": uid, "study_uid": "1.2", "tags": {"SeriesDescription": "x_a."}}
    other = {"study_uid": "1.2", "tags": {"SeriesDescription": "x_b."}}
    dicoms.write_series(folder / "disc1", voxels[:8], at=at[:8], **one)
    dicoms.write_series(folder / "disc2", voxels[8:], at=at[8:], **one)
    dicoms.write_series(folder / "disc3", voxels[::-1], at=at, **other)
    dicoms.write_series(folder / "scout", dicoms.phantom((3, 12, 10)), image_type=("LOCALIZER",))


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_target(raw: Path) -> None:
    archives.write_nifti(make(raw / "Dataset004_T/imagesTr/x_0000.nii.gz"), archives.body(4))
    (raw / "Dataset004_T/dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0}}')


def outcome(raw: Path) -> dict[str, bytes]:
    """What an import leaves, with the place of the dataset taken out."""
    folder = raw / NAME
    files = [*(folder / name for name in OUTPUTS), *sorted((folder / "converted").iterdir())]
    return {path.relative_to(folder).as_posix(): path.read_bytes().replace(str(raw).encode(), b"RAW") for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """An archive, and the outcome of its import."""
    base = tmp_path_factory.mktemp("undisturbed")
    write_archive(base / "archive")
    write_target(base / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(base / "raw"))
        assert main(["import", str(base / "archive"), "-np", "0", *ARGUMENTS]) == 0
    expected = outcome(base / "raw")
    assert expected["import/manifest.jsonl"].count(b"\n") == 6  # p0, p1, p3, grids, film, DICOM
    assert sum(name.startswith("converted/") for name in expected) == 4
    return base / "archive", expected


# ------------------------------------------------------------------------- stopped at each step that can be seen


class Killed(BaseException):
    """Stands for the end of the process: nothing in the import catches it."""


class Steps:
    """Counts what changes files, and ends the run at one of them, before or after it is done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.last, self.count, self.after = -1, 0, False
        self._wrap(patch, Path, "replace")
        self._wrap(patch, Path, "write_text")
        self._wrap(patch, Journal, "write")

    def _wrap(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def step(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.count - 1 == self.last and not self.after:
                raise Killed
            result = real(*args, **kwargs)
            if self.count - 1 == self.last:
                raise Killed
            return result

        patch.setattr(owner, name, step)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_ended_at_any_step_and_run_again_it_gives_the_same(
    every: int, after: bool, undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, expected = undisturbed
    whole = tmp_path / "whole"
    steps = Steps(monkeypatch)
    steps.after = after
    command = ["import", str(archive), "-np", "0", *ARGUMENTS]

    def start(raw: Path, last: int) -> None:
        monkeypatch.setenv("nnUNet_raw", str(raw))
        steps.count, steps.last = 0, last
        assert main(command) == 0

    write_target(whole)
    start(whole, -1)
    total = steps.count
    assert total > 30
    for last in range(every // 2 if after else 0, total, every):
        raw = tmp_path / str(last)
        write_target(raw)
        with pytest.raises(Killed):
            start(raw, last)
        start(raw, -1)
        assert outcome(raw) == expected, f"ended at step {last} of {total}"
        shutil.rmtree(raw)


# ------------------------------------------------------------------------------------------------ and kill -9

posix = pytest.mark.skipif(os.name == "nt", reason="process groups")


def start_import(archive: Path, raw: Path, workers: int) -> subprocess.Popen[bytes]:
    program = "import sys; from nnunet_volf.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "import", str(archive), "-np", str(workers), *ARGUMENTS]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, "nnUNet_raw": str(raw)}, start_new_session=True, **quiet)


def wait_for_journal(raw: Path, size: int, running: subprocess.Popen[bytes]) -> None:
    """Wait until an import has written so much of its journal, or is done."""
    journal, give_up = raw / NAME / "import/journal.jsonl", time.monotonic() + 60
    while running.poll() is None and time.monotonic() < give_up:
        if journal.exists() and journal.stat().st_size >= size:
            return
        time.sleep(0.002)


def kill_at_random_moments(archive: Path, raw: Path, kills: int, workers: int, seed: int) -> int:
    """Start an import again and again and kill all of its processes; return how many were at work then."""
    rng = random.Random(seed)
    alive = 0
    for _ in range(kills):
        running = start_import(archive, raw, workers)
        journal = raw / NAME / "import/journal.jsonl"
        size = journal.stat().st_size if journal.exists() else 0
        wait_for_journal(raw, size + rng.randrange(1, 12_000), running)
        time.sleep(rng.random() * 0.03)
        alive += running.poll() is None
        os.killpg(running.pid, signal.SIGKILL) if running.poll() is None else None
        running.wait()
    return alive


@posix
@pytest.mark.parametrize(("kills", "workers"), [(1, 0), pytest.param(12, 2, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_run_again_it_gives_the_same(
    kills: int, workers: int, undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    archive, expected = undisturbed
    write_target(tmp_path)
    assert kill_at_random_moments(archive, tmp_path, kills, workers, seed=kills) > 0
    assert start_import(archive, tmp_path, workers).wait(timeout=120) == 0
    assert outcome(tmp_path) == expected
    assert not list((tmp_path / NAME).rglob("*.tmp"))


def test_what_killed_runs_leave_half_written_is_removed(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, expected = undisturbed
    write_target(tmp_path)
    make(tmp_path / NAME / "converted/.0123456789abcdef.nii.4711.nii.gz").write_bytes(b"half")
    (tmp_path / NAME / "import").mkdir()
    (tmp_path / NAME / "import/journal.jsonl").write_bytes(b'{"key": "half a li')
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert main(["import", str(archive), "-np", "0", *ARGUMENTS]) == 0
    assert outcome(tmp_path) == expected
