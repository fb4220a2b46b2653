"""What a process does to what is around it while files are read, by the interpreter's own account and by looking."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What no reader of files has any use for. Opening for writing, and moving, is allowed in some folders.
_NEVER = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile",
    "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen", "webbrowser.open",
    "ftplib.connect", "http.client.connect", "smtplib.connect", "pty.spawn",
)  # fmt: skip
_CHANGES = (
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile", "os.setxattr",
)  # fmt: skip
_INSTALLED = (sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent), *filter(None, sys.path))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Surroundings:
    """Notes what is done beyond reading and computing; there is one for a process, as a hook can not be taken out."""

    def __init__(self) -> None:
        importlib.import_module("matplotlib.font_manager")  # which asks another program for its fonts, once
        self.noted: list[str] = []
        self._allowed: tuple[str, ...] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def watched(self, *allowed: Path) -> Iterator[None]:
        """Note what happens; files may be changed below the folders that are allowed."""
        self.noted = []
        before = set(sys.modules)
        self._allowed = (*(os.path.realpath(folder) for folder in allowed), os.path.realpath(tempfile.gettempdir()))
        try:
            yield
        finally:
            self._allowed = None
            self.noted += [f"import of {name}" for name in sorted(set(sys.modules) - before) if not _is_ours(name)]

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._allowed is None:
            return
        if event in _NEVER and not _asks_for_a_name(event, arguments):
            self.noted.append(f"{event} {arguments!r}"[:300])
        elif event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and mode.strip("rbtU")) or (isinstance(flags, int) and flags & _WRITING)
            if writes:
                self._check(event, path)
        elif event in _CHANGES:
            two = event in ("os.rename", "os.link", "os.symlink", "shutil.move")
            for path in arguments[: 2 if two else 1]:
                self._check(event, path if two else _within(path, arguments[-1]))

    def _check(self, event: str, path: Any) -> None:
        if isinstance(path, int) or str(path) == os.devnull:
            return
        place = os.path.realpath(os.fsdecode(path))
        if not place.startswith(tuple(f"{folder}{os.sep}" for folder in self._allowed or ())):
            self.noted.append(f"{event} {place}"[:300])


def _within(path: Any, folder: Any) -> Any:
    """Return a path with the open folder that it is relative to, which shutil.rmtree removes files by."""
    if isinstance(path, int) or not isinstance(folder, int) or folder < 0:
        return path
    opened = Path(f"/proc/self/fd/{folder}")
    return opened.readlink() / os.fsdecode(path) if opened.exists() else path


def _asks_for_a_name(event: str, arguments: tuple[Any, ...]) -> bool:
    """Say whether a process is the one that nnU-Net starts for the name of the machine."""
    return event == "subprocess.Popen" and list(arguments[1]) == ["/bin/sh", "-c", "hostname"]


def _is_ours(name: str) -> bool:
    """Say whether a module is one that is installed; a file could only have others imported."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or str(file).startswith(_INSTALLED)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of each file below a folder, to see whether anything was changed there."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*") if not path.is_dir()
    }
