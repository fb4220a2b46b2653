"""Disks that are full, read-only or gone: one message made of whatever error came up, with what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nnunet_volf.errors import StorageError, VolFError


class _Trouble(NamedTuple):
    happened: str
    advice: str


_FULL = "Make room there, or point nnU-Net's folders to another disk"
_SHARE = "If it is on a share or another disk, see that this is mounted (mount, df)"

# By name, as not every system knows every error.
_TROUBLES = {
    "ENOSPC": _Trouble("the disk is full", _FULL),
    "EDQUOT": _Trouble("the quota of this user or group on the disk is used up", _FULL),
    "EFBIG": _Trouble("the file is larger than its file system, or a limit (ulimit -f), allows", "Raise the limit"),
    "EROFS": _Trouble("the file system can only be read", "Have it mounted for writing, or choose another folder"),
    "EACCES": _Trouble("access is denied", "Have the rights to it changed (ls -l), or choose another folder"),
    "EPERM": _Trouble("access is denied", "Have the rights to it changed (ls -l), or choose another folder"),
    "ENOENT": _Trouble("it is not there, or its folder is not", _SHARE),
    "ENOTDIR": _Trouble("a part of its path is a file and no folder", "Move that file away, or choose another folder"),
    "EIO": _Trouble("the disk fails to read or write it", "Look at the health of the disk (dmesg) before all else"),
    "ESTALE": _Trouble("its share has been taken away or set up anew", _SHARE),
    "ENOTCONN": _Trouble("its share is no longer connected", _SHARE),
}
_BY_NUMBER = {getattr(errno, name): trouble for name, trouble in _TROUBLES.items() if hasattr(errno, name)}
_SAYING_HOW_MUCH = (errno.ENOSPC,)  # free space explains nothing else

_PROBE_BYTES = 1 << 20


def storage_error(error: BaseException, path: Path | None = None) -> StorageError | None:
    """Return the message for an error, or one that led to it, if that is a fault of a disk or folder.

    Args:
        error: what came up; libraries often raise one of their own while they handle an OSError.
        path: the file that was to be written. Most errors in writing name none.
    """
    fault = _fault_behind(error)
    if fault is None:
        return None
    named = Path(os.fsdecode(fault.filename)) if isinstance(fault.filename, (str, bytes)) else None
    place = path if named is None or (path is not None and named.parent == path.parent) else named
    trouble = _BY_NUMBER[fault.errno or 0]
    free = _free_space(place) if fault.errno in _SAYING_HOW_MUCH and place is not None else ""
    return StorageError(
        f"{place or 'A file or the output'}: {trouble.happened}{free}.",
        f"{trouble.advice}; then run the same command again, which goes on from what is there.",
    )


@contextlib.contextmanager
def told_plainly(path: Path, unfinished: Path) -> Iterator[None]:
    """Raise a StorageError where writing a file fails for its disk.

    Not all libraries say why they failed. Where one does not, the disk is asked: a block is written behind what there
    is of the file so far, which is of no use any more.

    Args:
        path: the file that is to be written.
        unfinished: where it is written until it is whole.
    """
    try:
        yield
    except VolFError:
        raise
    except Exception as error:
        told = storage_error(error, path) or _ask_disk(path, unfinished)
        if told is None:
            raise
        raise told from error


@contextlib.contextmanager
def told_of_folder(folder: Path) -> Iterator[None]:
    """Raise a StorageError where what others write into a folder fails for its disk."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        with told_plainly(folder, probe):
            yield
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be written now."""
    probe = folder / f".{os.getpid()}.probe"
    told = _ask_disk(folder, probe)
    with contextlib.suppress(OSError):
        probe.unlink(missing_ok=True)
    if told is not None:
        raise told


def free_bytes(place: Path) -> int | None:
    """Return the free space where a file is or would be, if that can be told."""
    there = next((folder for folder in (place, *place.parents) if folder.is_dir()), None)
    try:
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None


def _ask_disk(path: Path, unfinished: Path) -> StorageError | None:
    """Write a block behind what a file holds, and return what is wrong with the disk if that fails."""
    try:
        with unfinished.open("ab") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        return storage_error(fault, path)
    return None


def _fault_behind(error: BaseException) -> OSError | None:
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in _BY_NUMBER:
            return link
        link = link.__cause__ or link.__context__
    return None


def _free_space(place: Path) -> str:
    free = free_bytes(place)
    return "" if free is None else f", {free / 1e6:.1f} MB are free"
