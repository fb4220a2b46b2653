"""Which tasks a source gives, and when one has to be done again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dicoms
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.preprocessing.channels import parse_channels
from nnunet_volf.preprocessing.intake import IntakeTask
from nnunet_volf.preprocessing.journal import Journal
from nnunet_volf.preprocessing.request import Policy, Request
from nnunet_volf.preprocessing.sources import SourceItem, find
from nnunet_volf.preprocessing.worklist import PICTURES, join_folders, state, worklist

NOTHING: dict[str, Any] = {"images": [], "quarantined": []}


def request_for(source: Path, *channels: str, **more: Any) -> Request:
    return Request(str(source), "Dataset501_Archive", Policy(parse_channels(channels or ["CT"])), workers=0, **more)


def tasks_of(request: Request, base: Path) -> list[IntakeTask]:
    with Journal(base / "journal.jsonl") as journal:
        return worklist(request, find(request.source), base / "Dataset501_Archive", journal)


def to_do(request: Request, base: Path) -> list[str]:
    """Names of what is to do, which then counts as done."""
    with Journal(base / "journal.jsonl") as journal:
        tasks = worklist(request, find(request.source), base / "Dataset501_Archive", journal)
        new = [task for task in tasks if not journal.holds(task.key, task.signature)]
        for task in new:
            journal.write(task.key, task.signature, NOTHING)
    return [task.name for task in new]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in ("a.nii.gz", "b.nii.gz", "sub/c.nrrd"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "archive"


# --------------------------------------------------------------------------------------------- what is redone


def test_what_was_done_is_not_done_again(archive: Path, tmp_path: Path) -> None:
    request = request_for(archive)
    assert to_do(request, tmp_path) == ["a.nii.gz", "b.nii.gz", "sub/c.nrrd"]
    assert to_do(request, tmp_path) == []


def test_only_new_and_changed_files_are_looked_at(archive: Path, tmp_path: Path) -> None:
    request = request_for(archive)
    to_do(request, tmp_path)
    (archive / "d.mha").write_bytes(b"x")
    (archive / "a.nii.gz").write_bytes(b"longer")
    os.utime(archive / "b.nii.gz", ns=(0, 0))
    assert to_do(request, tmp_path) == ["a.nii.gz", "b.nii.gz", "d.mha"]


def test_another_policy_looks_again(archive: Path, tmp_path: Path) -> None:
    request = request_for(archive)
    to_do(request, tmp_path)
    assert len(to_do(replace(request, policy=replace(request.policy, time="mean")), tmp_path)) == 3


def test_a_release_that_looks_otherwise_looks_again(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_do(request_for(archive), tmp_path)
    monkeypatch.setattr("nnunet_volf.preprocessing.worklist.FORMAT", 99)
    assert len(to_do(request_for(archive), tmp_path)) == 3


@pytest.mark.parametrize("other", [{"grids": "resample"}, {"retry": True}, {"most_refused": 0.1}, {"keep_known": True}])
def test_what_does_not_change_how_an_image_is_read_does_not_look_again(
    other: dict[str, Any], archive: Path, tmp_path: Path
) -> None:
    to_do(request_for(archive), tmp_path)
    assert to_do(request_for(archive, **other), tmp_path) == []


def test_a_corrected_table_looks_again_at_the_rows_it_changes(archive: Path, tmp_path: Path) -> None:
    table = archive / "list.csv"
    table.write_text("path,subject,channel\na.nii.gz,p1,T1\nb.nii.gz,p1,T1\n")
    to_do(request_for(table, "T1", "T2"), tmp_path)
    table.write_text("path,subject,channel\na.nii.gz,p1,T1\nb.nii.gz,p1,T2\n")
    assert to_do(request_for(table, "T1", "T2"), tmp_path) == ["b.nii.gz"]


def test_a_file_that_vanished_since_it_was_found_has_a_state_too(tmp_path: Path) -> None:
    for dicom in (False, True):
        assert isinstance(state(SourceItem(str(tmp_path / "gone.nii.gz"), "gone.nii.gz", dicom)), str)


def test_the_state_of_a_dicom_folder_changes_with_any_file_in_it(tmp_path: Path) -> None:
    item = SourceItem(str(tmp_path), "series", dicom=True)
    states = [state(item)]
    (tmp_path / "1.dcm").write_bytes(b"1")
    states.append(state(item))
    (tmp_path / "2.dcm").write_bytes(b"2")
    states.append(state(item))
    (tmp_path / "2.dcm").rename(tmp_path / "3.dcm")
    states.append(state(item))
    os.utime(tmp_path / "3.dcm", ns=(5, 5))
    states.append(state(item))
    assert len(set(states)) == len(states)
    assert state(item) == states[-1]


# ---------------------------------------------------------------------------------------- channels and pictures


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (("T1", "T2"), ["T1", "T2", "PD"]),
        (("t1",), ["T1", "T2", "PD"]),
        (("MRI",), [None, None, None]),  # the target's name for all that a table tells apart
        (("image",), [None, None, None]),
    ],
)
def test_channels_of_a_table_count_where_one_of_them_was_asked_for(
    asked: tuple[str, ...], given: list[str | None], archive: Path, tmp_path: Path
) -> None:
    table = archive / "list.csv"
    table.write_text("path,channel\na.nii.gz,T1\nb.nii.gz,T2\nsub/c.nrrd,PD\n")
    assert [task.channel for task in tasks_of(request_for(table, *asked), tmp_path)] == given


@pytest.mark.parametrize("count", [1, PICTURES, PICTURES + 1, 5 * PICTURES - 1])
def test_pictures_are_spread_over_a_large_archive(count: int, tmp_path: Path) -> None:
    for number in range(count):
        (tmp_path / f"{number:04d}.nii").touch()
    with_picture = [number for number, task in enumerate(tasks_of(request_for(tmp_path), tmp_path)) if task.picture]
    assert min(count, PICTURES) <= len(with_picture) < 2 * PICTURES
    assert with_picture[0] == 0
    assert max(b - a for a, b in zip(with_picture, [*with_picture[1:], count], strict=True)) <= count // PICTURES + 1


# ----------------------------------------------------------------------------------------- folders of a series


def components(folders: Sequence[tuple[SourceItem, Sequence[str]]]) -> set[frozenset[SourceItem]]:
    """The slow way: merge any two groups that share a series, until none do."""
    groups = [({item}, set(series)) for item, series in folders]
    merged = True
    while merged:
        merged = False
        for first in groups:
            for second in groups:
                if first is not second and first[1] & second[1]:
                    groups = [g for g in groups if g is not first and g is not second]
                    groups.append((first[0] | second[0], first[1] | second[1]))
                    merged = True
                    break
            if merged:
                break
    return {frozenset(items) for items, _ in groups}


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), max_size=8), st.randoms())
def test_folders_are_joined_as_by_merging_until_nothing_changes(series: list[list[str]], random: Any) -> None:
    folders = [(SourceItem(f"/{n}", f"{n}", dicom=True), one) for n, one in enumerate(series)]
    random.shuffle(folders)
    units = join_folders(folders)
    assert {frozenset(unit) for unit in units} == components(folders)
    assert sum(map(len, units)) == len(folders)
    assert units == sorted((tuple(sorted(unit, key=lambda i: i.name)) for unit in units), key=lambda unit: unit[0].name)


def test_a_series_over_two_folders_is_one_task_and_an_unrelated_folder_another(tmp_path: Path) -> None:
    uid = dicoms.generate_uid()
    dicoms.write_series(tmp_path / "x/disc1", dicoms.phantom((4, 9, 9)), series_uid=uid)
    dicoms.write_series(tmp_path / "x/disc2", dicoms.phantom((4, 9, 9)), series_uid=uid)
    dicoms.write_series(tmp_path / "x/other", dicoms.phantom((4, 9, 9)))
    tasks = tasks_of(request_for(tmp_path / "x"), tmp_path)
    assert [[Path(path).name for path in task.paths] for task in tasks] == [["disc1", "disc2"], ["other"]]


def test_a_folder_that_becomes_part_of_another_is_not_counted_twice(tmp_path: Path) -> None:
    uid = dicoms.generate_uid()
    dicoms.write_series(tmp_path / "x/b", dicoms.phantom((4, 9, 9)), series_uid=uid)
    request = request_for(tmp_path / "x")
    assert to_do(request, tmp_path) == ["b"]
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(str(tmp_path / "x/b"), "as looked at", {"images": ["one"], "quarantined": []})
    dicoms.write_series(tmp_path / "x/a", dicoms.phantom((4, 9, 9)), series_uid=uid)
    assert to_do(request, tmp_path) == ["a"]
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.read(str(tmp_path / "x/b")) == NOTHING
    assert to_do(request, tmp_path) == []


def test_a_folder_that_is_on_its_own_again_is_looked_at(tmp_path: Path) -> None:
    uid = dicoms.generate_uid()
    for name in ("a", "b"):
        dicoms.write_series(tmp_path / "x" / name, dicoms.phantom((4, 9, 9)), series_uid=uid)
    request = request_for(tmp_path / "x")
    assert to_do(request, tmp_path) == ["a"]
    for path in (tmp_path / "x/a").iterdir():
        path.unlink()
    assert to_do(request, tmp_path) == ["b"]


def test_a_new_neighbour_does_not_make_a_folder_new(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path / "x/a", dicoms.phantom((4, 9, 9)))
    request = request_for(tmp_path / "x")
    assert to_do(request, tmp_path) == ["a"]
    dicoms.write_series(tmp_path / "x/b", dicoms.phantom((4, 9, 9)))
    assert to_do(request, tmp_path) == ["b"]
