"""What pretraining says before it starts: how large, how long."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import NnUNetFolders
from unlabeled import NAME, import_scans, write_scans

from nnunet_volf import estimate, machine
from nnunet_volf.cli import main
from nnunet_volf.estimate import Speed
from nnunet_volf.plans import PlannedDataset, planned_dataset
from nnunet_volf.preprocessing import outlook
from nnunet_volf.preprocessing.outlook import Size, describe_disk, describe_time, guess_size, size_of
from nnunet_volf.preprocessing.sources import Found, SourceItem, find
from nnunet_volf.pretext.catalogue import METHODS


def planned(spacing: list[float], order: tuple[int, int, int] = (0, 1, 2)) -> PlannedDataset:
    plans = {"transpose_forward": list(order), "configurations": {"x": {"spacing": spacing}}}
    return PlannedDataset("Dataset004_T", Path(), plans)


def real_bytes(folders: NnUNetFolders) -> int:
    """Size of the voxels that preprocessing has stored, not compressed."""
    import blosc2

    files = list((folders.preprocessed / NAME).glob("*/case_*.b2nd"))
    assert files
    return sum(4 * int(np.prod(blosc2.open(urlpath=str(file), mode="r").shape)) for file in files)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_guess_is_close_to_what_preprocessing_stores(
    nnunet_folders: NnUNetFolders, tmp_path: Path, channels: int
) -> None:
    write_scans(tmp_path / "scans", 4, shape=(20, 34, 28), spacing=(2.0, 0.7, 1.1), channels=channels)
    names = ["A=*_t0.nii.gz", "B=*_t1.nii.gz"][:channels]
    import_scans(tmp_path / "scans", "--channels", *names)
    assert main(["plan", "-d", "501", "-np", "0", "--spacing", "1.5", "1", "1"]) == 0
    target = planned_dataset("501", "VolFPlans")
    before = guess_size(find(str(tmp_path / "scans")), target, "3d_fullres")
    after = size_of("501", target, "3d_fullres")
    assert main(["preprocess", "-d", "501", "-np", "0"]) == 0
    assert before is not None
    assert before.images == after.images == 4 * channels
    real = real_bytes(nnunet_folders)
    assert before.bytes("float32") == pytest.approx(real, rel=0.05)
    assert after.bytes("float32") == pytest.approx(real, rel=0.05)
    assert after.bytes("float16") == after.bytes("float32") / 2


def test_a_size_is_that_of_the_grid_of_the_plan(tmp_path: Path) -> None:
    write_scans(tmp_path / "scans", 1, spacing=(3.0, 0.5, 1.0))
    found = find(str(tmp_path / "scans"))
    own = guess_size(found, None, "x")
    assert own is not None
    for spacing, order, factor in (
        ([1.0, 1.0, 1.0], (0, 1, 2), 3 * 0.5),
        ([1.0, 2.0, 4.0], (2, 0, 1), 1 / 1 * 3 / 2 * 0.5 / 4),
        ([1.0, 0.5], (0, 1, 2), 0.5 / 1 * 1 / 0.5),  # 2D leaves the slices where they are
        ([1.0, 0.5], (2, 0, 1), 3 / 1 * 0.5 / 0.5),
    ):
        size = guess_size(found, planned(spacing, order), "x")
        assert size is not None
        assert size.voxels == pytest.approx(own.voxels * factor), (spacing, order)


def test_only_some_headers_are_read_and_unreadable_ones_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scans(tmp_path, 2, shape=(10, 20, 30))
    (tmp_path / "broken.nii.gz").write_bytes(b"")
    items = [SourceItem(str(path), path.name) for path in sorted(tmp_path.iterdir())]
    seen: list[str] = []
    read = outlook.peek
    monkeypatch.setattr(outlook, "peek", lambda path: seen.append(path.name) or read(path))
    many = Found(items * 100)
    size = guess_size(many, None, "x")
    assert size is not None
    assert len(seen) == outlook.HEADERS == 40
    assert (seen[0], seen[-1]) == (items[0].name, items[-1].name)
    assert size.images == 300
    assert 300 * 8 * 18 * 28 <= size.voxels <= 300 * 12 * 22 * 32


def test_where_there_is_nothing_to_go_by_only_the_free_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guess_size(Found([SourceItem(str(tmp_path), "series", dicom=True)]), None, "x") is None
    monkeypatch.setattr(outlook.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=2.5e12))
    assert describe_disk(None, "float32", tmp_path) == f"{tmp_path} has 2.5 TB free"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1e5, "0.1 MB"), (12.4e6, "12 MB"), (999.4e6, "999 MB"), (1e9, "1.0 GB"), (99.6e9, "100 GB"),
        (350e9, "350 GB"), (1.25e12, "1.2 TB"), (900e12, "900 TB"), (3e15, "3,000 TB"),
    ],
)  # fmt: skip
def test_sizes_are_written_as_people_say_them(size: float, text: str) -> None:
    assert outlook._readable(size) == text


def test_the_disk_is_told_where_the_folder_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    usage = SimpleNamespace(free=5e9)
    monkeypatch.setattr(outlook.shutil, "disk_usage", lambda folder: asked.append(folder) or usage)
    folder = tmp_path / "not" / "yet"
    told = describe_disk(Size(10, 500e6), "float16", folder)
    assert told == f"at most about 1.0 GB as float16 in {folder}, which has 5.0 GB free"
    assert asked == [tmp_path]


def time_told(
    monkeypatch: pytest.MonkeyPatch, phantoms: NnUNetFolders, device: str, speed: Speed, gpus: int = 1, cpus: int = 9
) -> str:
    settings = {"epochs": 100, "iterations": 36}
    monkeypatch.setattr(estimate, "measure_speed", lambda *_: speed)
    monkeypatch.setattr(machine, "usable_cpus", lambda: SimpleNamespace(value=cpus))
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    return describe_time(planned_dataset("901"), "3d_fullres", settings, METHODS["volf"], device, gpus)


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "speed", "told"),
    [
        ("cuda", None, 1, Speed(1.0, 4.0), "of 8; the network decides: about 1 h 00 min"),
        ("cuda", None, 1, Speed(1.0, 16.0), "of 8; making batches decides: about 2 h 00 min"),
        ("cuda", "4", 1, Speed(1.0, 16.0), "of 4; making batches decides: about 4 h 00 min"),
        ("cuda", "30", 1, Speed(1.0, 16.0), "of 8; making batches decides: about 2 h 00 min"),
        ("cuda", "0", 1, Speed(1.0, 1.0), "one loader worker; one after the other: about 2 h 00 min"),
        ("cuda", None, 3, Speed(1.0, 4.0), "of 2; making batches decides: about 2 h 00 min"),
        ("cpu", None, 1, Speed(1.0, 4.0), "one loader worker; one after the other: about 5 h 00 min"),
    ],
)
def test_the_time_counts_the_workers_that_nnunet_will_start_and_that_have_a_cpu(
    phantoms: NnUNetFolders,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    workers: str | None,
    gpus: int,
    speed: Speed,
    told: str,
) -> None:
    monkeypatch.delenv("nnUNet_n_proc_DA")
    if workers is not None:
        monkeypatch.setenv("nnUNet_n_proc_DA", workers)
    text = time_told(monkeypatch, phantoms, device, speed, gpus)
    assert text.startswith(f"100 epochs of 36 steps = 3,600 steps. Timed on this {device}: 1 s a step, ")
    assert text.endswith(told)


def test_the_speed_that_is_told_is_that_of_the_plans_network_and_channels(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(estimate, "measure_speed", lambda *args: given.extend(args) or Speed(1.0, 1.0))
    plans = json.loads((phantoms.preprocessed / "Dataset901_Phantom" / "nnUNetPlans.json").read_text())
    describe_time(planned_dataset("901"), "2d", {"coefficients": 2, "foreground_ratio": 0.5}, METHODS["volf"], "cpu", 1)
    assert given[0]["patch_size"] == plans["configurations"]["2d"]["patch_size"]
    assert (given[1].given.channels, given[1].settings.coefficients) == (("phantom0",), 2)
    assert str(given[2]) == "cpu"
