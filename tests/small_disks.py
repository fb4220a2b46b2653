"""Disks that are small enough to be filled, in memory; and disks that can only be read."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_FILLER = "filler"
_PAGE = 4096  # of a tmpfs: what a file takes at least


class SmallDisk:
    """A disk of a few megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self, leaving: int = 0) -> None:
        """Fill it with one file, but for some bytes."""
        with (self.folder / _FILLER).open("ab", buffering=0) as filler:
            while self.free > leaving:
                filler.write(bytes(min(1 << 20, max(_PAGE, self.free - leaving))))

    def make_room(self) -> None:
        """Take that file away."""
        (self.folder / _FILLER).unlink()

    def read_only(self) -> None:
        """Let nobody write, root included."""
        _mount("-o", "remount,ro", str(self.folder))


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a disk in memory for a while; a test that may not do that is skipped."""
    if sys.platform != "linux":
        pytest.skip("a small disk is a tmpfs, which is Linux's")
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")
