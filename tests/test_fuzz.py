"""Thousands of broken and hostile files: none crashes, hangs, takes memory, runs code or is written through."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from attempts import PATIENCE, Case, attempt
from corpus import KINDS, spoil, write_seeds
from surroundings import Surroundings

from nnunet_volf.preprocessing.parallel import run_parallel

# How many of each kind: by default, and in the slow tests beside those. A long campaign is benchmarks/fuzz.py.
CASES = {
    "nifti": (100, 320), "nrrd": (100, 320), "meta": (100, 320), "dicom": (40, 100), "table": (30, 90),
    "dataset": (30, 90), "imported": (6, 20), "planned": (20, 65), "case": (6, 20), "weights": (40, 90),
    "described": (28, 70),
}  # fmt: skip
# Readers that are not Python's may crash, in a worker of their own, as in an import.
NATIVE = ("nifti", "nrrd", "meta", "dicom")


def test_more_than_two_thousand_are_tried() -> None:
    assert CASES.keys() == KINDS.keys()
    assert sum(map(sum, CASES.values())) >= 2000


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(name, str(folder))  # each kind that needs them sets its own
        write_seeds(folder / "kinds", KINDS)
    return folder / "kinds"


def problems(seeds: Path, room: Path, slow: bool) -> dict[str, str]:
    cases = [
        Case(kind, number, str(seeds), str(room))
        for kind, (by_default, beside) in CASES.items()
        for number in (range(by_default, by_default + beside) if slow else range(by_default))
    ]
    found, said = {}, Counter[str]()
    for done in run_parallel(attempt, cases, workers=2, timeout=PATIENCE):
        outcome, failure = done.result, done.failure
        said[outcome.said if outcome else str(failure)] += 1
        if failure is not None and not (failure.kind == "worker" and done.task.kind in NATIVE):
            found[str(done.task)] = str(failure)
        elif outcome is not None and outcome.problem:
            found[str(done.task)] = outcome.problem
    assert said["taken"] > 20, f"most damage is not to be fatal, or nothing behind the headers is reached: {said}"
    return found


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux")
def test_broken_and_hostile_files_are_used_or_refused_with_a_message(seeds: Path, tmp_path: Path) -> None:
    assert problems(seeds, tmp_path, slow=False) == {}


@pytest.mark.weekly
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux")
def test_many_more_of_them(seeds: Path, tmp_path: Path) -> None:
    assert problems(seeds, tmp_path, slow=True) == {}


def test_a_kind_and_a_number_are_one_file(seeds: Path, tmp_path: Path) -> None:
    for kind in ("nifti", "dicom", "table", "weights"):
        first, second = (spoil(kind, 7, seeds, tmp_path / f"{kind}{n}") for n in range(2))
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes() != (seeds / kind / first.relative_to(tmp_path / f"{kind}0")).read_bytes()


@pytest.fixture(scope="module")
def surroundings() -> Surroundings:
    return Surroundings()


@pytest.mark.parametrize(
    ("event", "act"),
    [
        ("subprocess.Popen", lambda folder: subprocess.run([sys.executable, "--version"], check=True)),
        ("open", lambda folder: (folder / "x").write_text("x", encoding="utf-8")),
        ("os.rename", lambda folder: (folder / "there").rename(folder / "y")),
        ("os.symlink", lambda folder: (folder / "z").symlink_to(folder)),
        ("os.mkdir", lambda folder: (folder / "d").mkdir()),
        ("os.remove", lambda folder: (folder / "there").unlink()),
        ("socket.bind", lambda folder: socket.create_server(("127.0.0.1", 0)).close()),
    ],
)
def test_the_watch_sees_it(
    event: str, act: object, surroundings: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "there").touch()
    with surroundings.watched(tmp_path / "allowed"):
        act(tmp_path)  # type: ignore[operator]
    assert any(noted.startswith(event) for noted in surroundings.noted), surroundings.noted


def test_the_watch_lets_outputs_be_written(surroundings: Surroundings, tmp_path: Path) -> None:
    with surroundings.watched(tmp_path):
        (tmp_path / "x").write_text("x", encoding="utf-8")
        (tmp_path / "x").rename(tmp_path / "y")
        assert [path.name for path in tmp_path.iterdir()] == ["y"]
    assert surroundings.noted == []
