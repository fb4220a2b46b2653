"""A preprocessed case on disk: whole, ours, readable by training and by nnU-Net, or not there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunetv2.training.dataloading.nnunet_dataset import (
    comp_blosc2_params,
    infer_dataset_class,
    nnUNetDatasetBlosc2,
)

from nnunet_volf.augment import Window
from nnunet_volf.case_notes import CASE_KEY, LOCATIONS_KEY, as_metadata, noted
from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.errors import DataError, StorageError
from nnunet_volf.preprocessing import storage
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.preprocessing.storage import UNFINISHED, remove_unfinished, stored_signature, write_case

SIGNATURE = {"format": 1, "content": "c0ffee", "spacing": [1.0, 0.7, 0.7], "nested": {"mean": 12.5, "none": None}}
LOCATIONS = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint16)


def volume(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(folder: Path, data: np.ndarray, name: str = "case_a", **options: Any) -> int:
    return write_case(folder, name, data, (16, 16, 16), SIGNATURE, LOCATIONS, **options)


def read(folder: Path, name: str = "case_a") -> Any:
    return blosc2.open(str(folder / f"{name}.b2nd"), mode="r")


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_case_is_one_file_with_voxels_signature_and_locations(tmp_path: Path) -> None:
    data = volume(2, 20, 24, 18)
    size = write(tmp_path, data)
    assert visible(tmp_path) == {"case_a.b2nd"}
    assert size == (tmp_path / "case_a.b2nd").stat().st_size
    stored = read(tmp_path)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored[:], data)
    assert stored_signature(tmp_path, "case_a") == SIGNATURE
    locations = np.frombuffer(noted(stored.schunk, LOCATIONS_KEY), np.uint16).reshape(-1, 3)
    np.testing.assert_array_equal(locations, LOCATIONS)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 2), *[st.integers(1, 40)] * 3),
    patch=st.one_of(st.tuples(*[st.integers(1, 48)] * 3), st.tuples(*[st.integers(1, 48)] * 2)),
    dtype=st.sampled_from(storage.DTYPES),
)
def test_any_shape_and_patch_come_back_as_they_were(
    tmp_path: Path, shape: tuple[int, ...], patch: tuple[int, ...], dtype: str
) -> None:
    data = volume(*shape)
    write_case(tmp_path, "case", data, patch, SIGNATURE, LOCATIONS, dtype)
    np.testing.assert_array_equal(read(tmp_path, "case")[:], data.astype(dtype))


def test_chunks_are_nnunets_for_the_patch(tmp_path: Path) -> None:
    data = volume(1, 60, 70, 80)
    write_case(tmp_path, "case", data, (48, 56, 40), SIGNATURE, LOCATIONS)
    blocks, chunks = comp_blosc2_params(data.shape, (48, 56, 40), 4)
    assert (read(tmp_path, "case").blocks, read(tmp_path, "case").chunks) == (blocks, chunks)


def test_the_filter_is_the_smaller_one_of_a_trial(tmp_path: Path) -> None:
    smooth = np.cumsum(volume(1, 40, 40, 40), axis=3)
    integers = np.round(volume(1, 40, 40, 40) * 3) / 7
    write(tmp_path, smooth, "smooth")
    write(tmp_path, integers.astype(np.float32), "integers")
    assert read(tmp_path, "smooth").schunk.cparams.filters[0] == blosc2.Filter.SHUFFLE
    assert read(tmp_path, "integers").schunk.cparams.filters[0] == blosc2.Filter.NOFILTER


def test_a_view_is_stored_as_it_is_indexed(tmp_path: Path) -> None:
    data = volume(1, 20, 24, 18).transpose(0, 3, 1, 2)[:, 2:, 3:, 1:]
    write(tmp_path, data)
    np.testing.assert_array_equal(read(tmp_path)[:], data)


def test_float16_takes_half_the_space_and_rounds_to_its_eleven_bits(tmp_path: Path) -> None:
    data = volume(1, 48, 48, 48)
    full, half = write(tmp_path, data, "full"), write(tmp_path, data, "half", dtype="float16")
    assert 0.4 < half / full < 0.6
    stored = read(tmp_path, "half")[:].astype(np.float32)
    assert np.max(np.abs(stored - data) / np.maximum(np.abs(data), 2**-14)) <= 2**-11


@pytest.mark.parametrize("dtype", storage.DTYPES)
def test_training_reads_the_crops_as_float32(tmp_path: Path, dtype: str) -> None:
    data = volume(1, 20, 24, 18)
    write(tmp_path, data, dtype=dtype)
    crop = UnlabeledCases(tmp_path, ["case_a"]).open("case_a").read(Window((2, 3, 4), (8, 8, 8)))
    np.testing.assert_array_equal(crop.numpy(), data.astype(dtype)[:, 2:10, 3:11, 4:12].astype(np.float32))


def test_nnunet_recognises_the_folder_and_its_cases(tmp_path: Path) -> None:
    write(tmp_path, volume(1, 20, 24, 18), mask=np.zeros((1, 20, 24, 18), np.int8))
    (tmp_path / UNFINISHED / "case_b.b2nd.1.abcd").write_bytes(b"half")
    assert infer_dataset_class(str(tmp_path)) is nnUNetDatasetBlosc2
    assert nnUNetDatasetBlosc2.get_identifiers(str(tmp_path)) == ["case_a"]


def test_values_beyond_float16_are_refused_with_numbers_and_nothing_is_left(tmp_path: Path) -> None:
    data = volume(1, 8, 8, 8)
    data[0, 1, 2, 3] = -70000
    with pytest.raises(Refused, match=r"reach from -70000 to .*; float16 ends at 65504. Store .* as float32") as told:
        write(tmp_path, data, dtype="float16")
    assert told.value.kind == "range"
    assert visible(tmp_path) == set()
    write(tmp_path, data)


def test_an_unknown_dtype_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'int8'; cases are stored as one of: float32, float16"):
        write(tmp_path, volume(1, 8, 8, 8), dtype="int8")


def test_a_mask_is_a_file_of_its_own_and_there_before_its_case(tmp_path: Path, monkeypatch: Any) -> None:
    mask = np.zeros((1, 8, 9, 10), np.int8)
    mask[0, 0] = -1
    order = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(to.name), replace(self, to))[1])
    write(tmp_path, volume(1, 8, 9, 10), mask=mask)
    assert order == ["case_a_seg.b2nd", "case_a.b2nd"]
    stored = read(tmp_path, "case_a_seg")
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored[:], mask)


def test_what_reads_back_differently_never_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = blosc2.asarray

    def damage(array: np.ndarray, **options: Any) -> Any:
        if "urlpath" in options:
            array = array.copy()
            array[0, 3, 3, 3] += 1
        return pack(array, **options)

    monkeypatch.setattr(blosc2, "asarray", damage)
    with pytest.raises(Refused, match=r"differs from the 512 voxels written\. Look at the health") as told:
        write(tmp_path, volume(1, 8, 8, 8))
    assert told.value.kind == "unwritable"
    assert visible(tmp_path) == set()
    assert list((tmp_path / UNFINISHED).iterdir()) == []


def test_a_case_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = volume(1, 8, 8, 8)
    write(tmp_path, old)

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"case_a\.b2nd: the disk is full"):
        write(tmp_path, volume(1, 8, 8, 8, seed=1))
    np.testing.assert_array_equal(read(tmp_path)[:], old)
    assert list((tmp_path / UNFINISHED).iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_has_no_signature(tmp_path: Path, share: float) -> None:
    size = write(tmp_path, volume(1, 40, 40, 40))
    os.truncate(tmp_path / "case_a.b2nd", int(size * share))
    assert stored_signature(tmp_path, "case_a") is None


def test_a_missing_file_has_no_signature(tmp_path: Path) -> None:
    assert stored_signature(tmp_path, "case_a") is None


def test_a_file_of_nnunets_has_no_signature(tmp_path: Path) -> None:
    nnUNetDatasetBlosc2.save_case(
        volume(1, 20, 20, 20),
        np.zeros((1, 20, 20, 20), np.int16),
        {},
        str(tmp_path / "case_a"),
        chunks=(1, 20, 20, 20),
        blocks=(1, 10, 10, 10),
    )
    assert stored_signature(tmp_path, "case_a") is None


@pytest.mark.parametrize("content", [b"", b"no frame", b"\0" * 4096])
def test_another_file_of_that_name_has_no_signature(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "case_a.b2nd").write_bytes(content)
    assert stored_signature(tmp_path, "case_a") is None


def test_a_key_of_ours_that_is_no_mapping_is_not_ours(tmp_path: Path) -> None:
    notes = as_metadata({CASE_KEY: "something"})
    blosc2.asarray(volume(1, 8, 8, 8), urlpath=str(tmp_path / "case_a.b2nd"), **notes)
    assert stored_signature(tmp_path, "case_a") is None


def test_notes_of_files_that_were_written_before_are_read_where_those_have_them(tmp_path: Path) -> None:
    stored = blosc2.asarray(volume(1, 8, 8, 8), urlpath=str(tmp_path / "case_a.b2nd"))
    assert noted(stored.schunk, CASE_KEY) is None
    stored.schunk.vlmeta[CASE_KEY] = {"content": "0123"}
    assert stored_signature(tmp_path, "case_a") == {"content": "0123"}


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="tells the memory of a process")
def test_reading_notes_over_and_over_takes_no_more_memory(tmp_path: Path) -> None:
    write_case(tmp_path, "case_a", volume(1, 8, 8, 8), (8, 8, 8), SIGNATURE, np.zeros((10_000, 3), np.uint16))
    cases = UnlabeledCases(tmp_path, ["case_a"])

    def resident_after(times: int) -> int:
        for _ in range(times):
            stored_signature(tmp_path, "case_a")
            cases.open("case_a").draw_tissue(np.random.default_rng(0))
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident_after(50)
    assert resident_after(500) - before < 500 * 10_000  # the notes of a case are 60 kB


@pytest.mark.parametrize("age", [-366 * 86400, 0, 366 * 86400])
def test_leftovers_are_removed_by_who_may_write_them_whatever_the_clock_says(tmp_path: Path, age: int) -> None:
    assert remove_unfinished(tmp_path) == 0
    (tmp_path / UNFINISHED).mkdir()
    files = [f"{name}{ending}.4711.0a1b2c3d" for name in ("case_a", "case_b") for ending in (".b2nd", "_seg.b2nd")]
    for file in files:
        (tmp_path / UNFINISHED / file).write_bytes(b"half")
        os.utime(tmp_path / UNFINISHED / file, (time.time() - age,) * 2)
    assert remove_unfinished(tmp_path, spared={"case_b"}) == 2
    assert sorted(path.name for path in (tmp_path / UNFINISHED).iterdir()) == sorted(files[2:])
    assert remove_unfinished(tmp_path) == 2
