"""Processes that end with the one that started them, however that ended: nobody waits for what they do any more."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading


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
