"""A preprocessed case as one file: written aside, read back, and only then moved to its place."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from nnunet_volf.case_notes import CASE_KEY, LOCATIONS_KEY, as_metadata, noted
from nnunet_volf.errors import DataError
from nnunet_volf.files import flush
from nnunet_volf.storage_errors import told_plainly

from .refusals import Refused
from .stages import COMPRESS, VERIFY, Stopwatch

ENDING = ".b2nd"
MASK_ENDING = "_seg.b2nd"  # where nnU-Net keeps what its normalisers call the segmentation
DTYPES = ("float32", "float16")

# Not beside the cases: nnU-Net tells the format of a folder from the endings of all files in it.
UNFINISHED = ".unfinished"

# nnU-Net's codec, as training reads each case thousands of times: ZSTD saves up to a sixth and takes up to twice as
# long to read. nnU-Net's level is 5, which takes 3 times as long to write and saves 5 % (resampled) to 14 % (not).
_CODEC = blosc2.Codec.LZ4HC
_LEVEL = 1
_TRIAL_BLOCKS = 2  # along each axis; ranks the filters as a whole chunk does, in a sixth of the time
_COMPARED_BYTES = 64 * 1024**2


def write_case(
    folder: Path,
    name: str,
    data: NDArray[Any],
    patch_size: Sequence[int],
    signature: Mapping[str, Any],
    locations: NDArray[np.uint16],
    dtype: str = "float32",
    mask: NDArray[np.int8] | None = None,
    watch: Stopwatch | None = None,
) -> int:
    """Write a case (c, x, y, z) and return the bytes it takes; a full disk is a StorageError, and no fault of the case.

    The file appears whole or not at all, and with the signature that `stored_signature` will find. A mask goes before
    it, so that a case that is there has its mask. The watch is told how long each stage takes.
    """
    watch = watch or Stopwatch()
    stored = _as_dtype(data, dtype)
    size = 0
    if mask is not None:
        size += _write(folder, f"{name}{MASK_ENDING}", np.ascontiguousarray(mask), patch_size, {}, watch)
    notes = {CASE_KEY: dict(signature), LOCATIONS_KEY: np.ascontiguousarray(locations, np.uint16).tobytes()}
    return size + _write(folder, f"{name}{ENDING}", stored, patch_size, notes, watch)


def stored_signature(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the signature that a case was written with; None when its file is missing, damaged or not ours."""
    path = folder / f"{name}{ENDING}"
    if not path.is_file():
        return None
    try:
        # Kept in a variable, as its metadata end with it. Without threads of its own it opens four times as fast.
        case = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1})
        signature = noted(case.schunk, CASE_KEY)
    except Exception:  # blosc2 raises RuntimeError, KeyError, ValueError and others on what it cannot read
        return None
    return signature if isinstance(signature, dict) else None


def remove_unfinished(folder: Path, spared: Container[str] = ()) -> int:
    """Remove what runs that died left behind, but for cases that another run may be writing; return how many files.

    By who may write them and not by their age, as clocks jump, and those of two machines differ.
    """
    removed = 0
    for path in (folder / UNFINISHED).glob("*"):
        file = path.name.rsplit(".", 2)[0]
        if file.removesuffix(MASK_ENDING).removesuffix(ENDING) not in spared:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _as_dtype(data: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype not in DTYPES:
        raise DataError(f"dtype is {dtype!r}; cases are stored as one of: {', '.join(DTYPES)}.")
    if dtype == "float16":
        low, high, most = float(data.min()), float(data.max()), float(np.finfo(np.float16).max)
        if max(abs(low), abs(high)) > most:
            raise Refused(
                "range",
                f"Its values reach from {low:g} to {high:g}; float16 ends at {most:g}.",
                "Store this dataset as float32, or plan it with a normalisation.",
            )
    return np.ascontiguousarray(data, dtype=dtype)


def _write(
    folder: Path,
    file: str,
    array: NDArray[Any],
    patch_size: Sequence[int],
    notes: Mapping[str, Any],
    watch: Stopwatch,
) -> int:
    aside = folder / UNFINISHED / f"{file}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with told_plainly(folder / file, aside):
            aside.parent.mkdir(exist_ok=True)  # and not the folder: where that is gone, so is its disk
            with watch.during(COMPRESS):
                _compress(aside, array, patch_size, notes)
            with watch.during(VERIFY):
                _require_equal(aside, array, notes)
            with watch.during(COMPRESS):
                flush(aside)
                size = aside.stat().st_size
                aside.replace(folder / file)
    except _DiffersError as error:
        raise Refused(
            "unwritable",
            f"What was read back from the disk differs from the {math.prod(array.shape)} voxels written{error}.",
            "Look at the health of the disk of nnUNet_preprocessed, then run again.",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # of the disk that has just failed
            aside.unlink(missing_ok=True)
    return size


class _DiffersError(Exception):
    """What was read back is not what was written."""


def _compress(path: Path, array: NDArray[Any], patch_size: Sequence[int], notes: Mapping[str, Any]) -> None:
    # Loads torch, which whoever only looks at what is there does not need.
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

    blocks, chunks = comp_blosc2_params(array.shape, tuple(patch_size), array.itemsize)
    blosc2.asarray(
        array,
        urlpath=str(path),
        chunks=chunks,
        blocks=blocks,
        cparams=_compression(array, blocks),
        dparams={"nthreads": 1},  # goes into the file, which is to be the same whoever writes it
        **as_metadata(notes),
    )


def _compression(array: NDArray[Any], blocks: Sequence[int]) -> dict[str, Any]:
    """Choose the filter by trial on some blocks, as nnU-Net does: only resampled values profit from shuffled bytes."""
    sizes = [min(whole, _TRIAL_BLOCKS * block) for whole, block in zip(array.shape, blocks, strict=True)]
    starts = [(whole - size) // 2 for whole, size in zip(array.shape, sizes, strict=True)]
    box = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    sample = np.ascontiguousarray(array[box])

    def options(filter_: blosc2.Filter) -> dict[str, Any]:
        return {"codec": _CODEC, "clevel": _LEVEL, "nthreads": 1, "filters": [filter_]}

    def size(filter_: blosc2.Filter) -> int:
        packed = blosc2.asarray(sample, chunks=sample.shape, blocks=tuple(blocks), cparams=options(filter_))
        return int(packed.schunk.cbytes)

    return options(min((blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE), key=size))


def _require_equal(path: Path, array: NDArray[Any], notes: Mapping[str, Any]) -> None:
    """Compare the file with what was to be written, a slab at a time: a full disk or a bad one shows here."""
    problem = ""
    try:
        stored = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1})
        step = max(1, int(_COMPARED_BYTES // max(1, array.nbytes // array.shape[1])))
        starts = range(0, array.shape[1], step)
        same = stored.shape == array.shape and stored.dtype == array.dtype
        same = same and all(np.array_equal(stored[:, n : n + step], array[:, n : n + step]) for n in starts)
        same = same and all(noted(stored.schunk, key) == value for key, value in notes.items())
    except Exception as error:
        same, problem = False, f" ({type(error).__name__})"
    if not same:
        raise _DiffersError(problem)
