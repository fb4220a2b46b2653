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
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_volf.errors import VolFError
from nnunet_volf.storage_errors import storage_error

# File systems that know no locks: some of FUSE, Lustre mounted without -o flock, NFS without its lock daemon.
_NO_LOCKS = tuple(
    getattr(errno, name) for name in ("ENOSYS", "ENOLCK", "EOPNOTSUPP", "ENOTSUP") if hasattr(errno, name)
)


class Held(VolFError):  # noqa: N818 - a state of a folder, not a fault
    """Another run is at work where this one was to begin."""


@contextlib.contextmanager
def only_one(lock: Path, work: str, patience: float = 0.0) -> Iterator[bool]:
    """Hold a lock while something is done; pass on whether it is really held, which some file systems cannot do.

    Args:
        lock: the file to lock; its folder is made, but not the one above.
        work: what must not be done twice at once, for the message: "Another import into Dataset501_A".
        patience: seconds to wait for one that is about to end.
    """
    taken = FileLock(lock, fallback_to_soft=False)
    try:
        lock.parent.mkdir(exist_ok=True)
        taken.acquire(timeout=patience)
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
        yield False
        return
    try:
        _sign(lock)
        yield True
    finally:
        taken.release()


def _sign(lock: Path) -> None:
    """Note in a lock that is held who holds it; nothing depends on it."""
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now().isoformat(" ", "seconds")}
    with contextlib.suppress(OSError):  # a full disk, or Windows, where what is locked cannot be written
        lock.write_text(json.dumps(about), encoding="utf-8")


def _holder(lock: Path) -> str:
    try:
        about = json.loads(lock.read_text(encoding="utf-8"))
        return f" (process {about['pid']} on {about['host']}, since {about['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
