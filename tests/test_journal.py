"""The journal of a run that may be killed at any byte."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.preprocessing.journal import Journal

Entry = tuple[str, str, dict[str, Any]]

KEYS = st.sampled_from(["a", "b", "ä/ö.nii.gz", "a\nb", '"', "\udcfc", ""])
RESULTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5) | st.lists(st.none()), max_size=3)
ENTRIES = st.lists(st.tuples(KEYS, st.text(max_size=3), RESULTS), max_size=8)


def content(journal: Journal) -> dict[str, dict[str, Any]]:
    return {key: journal.read(key) for key in journal}


def newest(entries: list[Entry]) -> dict[str, dict[str, Any]]:
    return {key: result for key, _, result in entries}


def write(path: Path, entries: list[Entry]) -> None:
    with Journal(path) as journal:
        for entry in entries:
            journal.write(*entry)


def test_a_new_journal_is_empty_and_makes_its_folder(tmp_path: Path) -> None:
    with Journal(tmp_path / "new/journal.jsonl") as journal:
        assert list(journal) == []
        assert not journal.holds("a", "1")


@given(ENTRIES)
def test_what_was_written_is_read_at_once_and_by_the_next_run(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with Journal(path) as journal:
            for number, (key, signature, result) in enumerate(entries, start=1):
                journal.write(key, signature, result)
                assert journal.holds(key, signature)
                assert content(journal) == newest(entries[:number])
        with Journal(path) as journal:
            assert content(journal) == newest(entries)
            assert list(journal) == sorted(newest(entries))
            assert all(journal.holds(key, signature) for key, signature, _ in {e[0]: e for e in entries}.values())


@given(ENTRIES, st.data())
def test_cut_at_any_byte_it_holds_the_whole_lines_and_goes_on(entries: list[Entry], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        write(path, entries)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        kept = entries[: whole[:cut].count(b"\n")]
        with Journal(path) as journal:
            assert content(journal) == newest(kept)
            journal.write("later", "1", {"n": 1})
        with Journal(path) as journal:
            assert content(journal) == {**newest(kept), "later": {"n": 1}}
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


@pytest.mark.parametrize("junk", [b"\0" * 64, b"\0\0\n", b"\xff\xff\n", b'{"key": "b"\n', b"12\n", b"[]\n", b"{}\n"])
def test_junk_at_the_end_as_a_power_failure_leaves_it_is_cut_off(junk: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, [("a", "1", {"n": 1})])
    good = path.read_bytes()
    path.write_bytes(good + junk)
    with Journal(path) as journal:
        assert content(journal) == {"a": {"n": 1}}
    assert path.read_bytes() == good


def test_a_task_is_held_with_its_newest_input_only(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, [("a", "1", {}), ("a", "2", {})])
    with Journal(path) as journal:
        assert journal.holds("a", "2")
        assert not journal.holds("a", "1")
        assert not journal.holds("b", "2")


def test_reading_between_writes_does_not_disturb_them(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        for number in range(20):
            journal.write(str(number), "1", {"n": number})
            assert journal.read("0") == {"n": 0}
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert content(journal) == {str(number): {"n": number} for number in range(20)}


def test_memory_holds_no_results(tmp_path: Path) -> None:
    large = {"picture": "x" * 100_000}
    with Journal(tmp_path / "journal.jsonl") as journal:
        for number in range(10):
            journal.write(str(number), "1", large)
        assert len(repr(vars(journal))) < 5_000
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert len(repr(vars(journal))) < 5_000
        assert journal.read("3") == large
