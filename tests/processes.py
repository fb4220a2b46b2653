"""Is a process still there, and has something happened yet? For tests that start processes of their own."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_until(condition: object, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def forked_by(parent: int) -> list[int]:
    """Children that run what their parent runs, as loader workers do, and not a tracker of resources."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    (program,) = (args for pid, _, args in rows if int(pid) == parent)
    return [int(pid) for pid, its_parent, args in rows if int(its_parent) == parent and args == program]
