"""Processes that end with the one that started them, however that ended: nobody waits for what they do any more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator

_LOOK_SECONDS = 1.0
_watching = False  # whether processes that are forked now look after us
_hooked = False


def end_with_parent() -> None:
    """End this process, and those that it started, when its stdin ends: a pipe that only the parent holds open.

    Without cleaning up: another process may be doing the same work over by now, with the same files.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)


@contextlib.contextmanager
def forked_end_with_us() -> Iterator[None]:
    """Have processes that are forked meanwhile end when this one is gone: kill -9 lets nobody tell them.

    Loader workers of batchgenerators would go on for ever, each with its memory.
    """
    global _watching, _hooked  # a hook is of a process, and cannot be taken back
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_look_after_parent)
        _hooked = True
    before, _watching = _watching, True
    try:
        yield
    finally:
        _watching = before


def _look_after_parent() -> None:
    if _watching:
        threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
