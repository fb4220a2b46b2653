"""What a process and all its children hold at a moment, as Linux tells it under /proc."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_SHARED = "/dev/shm/"  # where torch's workers hand batches over


@dataclass(frozen=True)
class Held:
    """Sums over the processes."""

    processes: int
    threads: int
    files: int  # open
    memory: int  # bytes; a page that n processes share counts as 1/n in each, so as one in the sum
    file_pages: int  # bytes of mapped files; counted likewise, so what other programs load of the same files changes it
    mappings: int
    shared: int  # bytes of files in /dev/shm that are open or mapped, also those without a name


def held_by(pid: int) -> Held:
    """Look at a process and its children, and theirs; what ends meanwhile counts as nothing."""
    pids = with_children(pid)
    shared: dict[int, int] = {}
    threads = files = memory = file_pages = mappings = 0
    for one in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            threads += _number(one, "status", r"Threads:\s+(\d+)")
            memory += 1024 * sum(_number(one, "smaps_rollup", rf"Pss_{kind}:\s+(\d+)") for kind in ("Anon", "Shmem"))
            file_pages += 1024 * _number(one, "smaps_rollup", r"Pss_File:\s+(\d+)")
            files += len(_open_files(one, shared))
            mappings += _mapped(one, shared)
    return Held(len(pids), threads, files, memory, file_pages, mappings, sum(shared.values()))


def with_children(pid: int) -> list[int]:
    """Return a process, its children, and theirs."""
    parents = {}
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # Behind the name, which stands in brackets and may hold anything.
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _number(pid: int, file: str, pattern: str) -> int:
    found = re.search(pattern, (_PROC / str(pid) / file).read_text())
    return int(found[1]) if found else 0


def _open_files(pid: int, shared: dict[int, int]) -> list[Path]:
    links = list((_PROC / str(pid) / "fd").iterdir())
    for link in links:
        with contextlib.suppress(FileNotFoundError):
            if str(link.readlink()).startswith(_SHARED):
                about = link.stat()
                shared[about.st_ino] = about.st_blocks * 512
    return links


def _mapped(pid: int, shared: dict[int, int]) -> int:
    lines = (_PROC / str(pid) / "maps").read_text().splitlines()
    for line in lines:
        span, _, _, _, inode, *path = line.split(maxsplit=5)
        if path and path[0].startswith(_SHARED):
            start, end = (int(address, 16) for address in span.split("-"))
            shared.setdefault(int(inode), end - start)
    return len(lines)
