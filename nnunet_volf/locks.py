"""One run at a time where two would spoil each other's files; the second is refused and told who is at work.

A lock goes with its process, however that ends, and stays behind in no process forked from it. So nothing has to be
removed by hand, whatever file is left.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nnunet_volf.errors import VolFError
from nnunet_volf.storage_errors import storage_error

# File systems that know no locks: some of FUSE, Lustre mounted without -o flock, NFS without its lock daemon.
_NO_LOCKS = tuple(
    getattr(errno, name) for name in ("ENOSYS", "ENOLCK", "EOPNOTSUPP", "ENOTSUP") if hasattr(errno, name)
)

# A server of files lets go of what a machine held that is gone only when it has not heard of it for so long: NFS 90 s.
_LEASE_SECONDS = 120.0


class Held(VolFError):  # noqa: N818 - a state of a folder, not a fault
    """Another run is at work where this one was to begin."""


@contextlib.contextmanager
def only_one(lock: Path, work: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock while something is done. Where the file system knows no locks, warn and go on without one.

    Args:
        lock: the file to lock; its folder is made, but not the one above.
        work: what must not be done twice at once, for the message: "Another import into Dataset501_A".
        patience: seconds to wait for one that is about to end; if above 0, longer for one on another machine, which
            may have crashed.
    """
    taken = FileLock(lock, fallback_to_soft=False)
    try:
        lock.parent.mkdir(exist_ok=True)
        try:
            taken.acquire(timeout=patience)
        except Timeout:
            if not patience or _signed(lock).get("host") in (None, socket.gethostname()):
                raise
            taken.acquire(timeout=_LEASE_SECONDS)
    except Timeout as error:
        raise Held(f"{work} is at work{_holder(lock)}. Wait for it, or stop it.") from error
    except (OSError, NotImplementedError) as error:
        if not isinstance(error, NotImplementedError) and error.errno not in _NO_LOCKS:
            raise storage_error(error, lock) or error from error
        warnings.warn(
            f"The file system of {lock.parent} knows no locks, so nothing can tell whether another run is at work "
            "there. See to it that there is only one.",
            stacklevel=3,
        )
        yield
        return
    try:
        _sign(lock)
        yield
    finally:
        taken.release()


def only_planning(folder: Path, plans_name: str, patience: float = 0.0) -> AbstractContextManager[None]:
    """Keep others from changing plans of a preprocessed dataset meanwhile."""
    return only_one(
        folder / ".locks" / f"{plans_name}.plans", f"Another change of {folder / plans_name}.json", patience
    )


def _sign(lock: Path) -> None:
    """Note in a lock that is held who holds it; nothing depends on it."""
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now().isoformat(" ", "seconds")}
    with contextlib.suppress(OSError):  # a full disk, or Windows, where what is locked cannot be written
        lock.write_text(json.dumps(about), encoding="utf-8")


def _signed(lock: Path) -> dict[str, Any]:
    try:
        about = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _holder(lock: Path) -> str:
    about = {"host": "?", "since": "?", **_signed(lock)}
    return f" (process {about['pid']} on {about['host']}, since {about['since']})" if "pid" in about else ""
