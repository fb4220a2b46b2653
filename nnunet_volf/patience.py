"""Read a file again when it is the disk that refuses, and not the file that is damaged."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import TypeVar

Read = TypeVar("Read")

# Seconds between attempts: a share that fails over or is mounted again is mostly back within half a minute.
PAUSES = (1.0, 5.0, 25.0)

# The fault of this process or machine, whatever file it meets.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_BLOCK = 1 << 22


def read_patiently(read: Callable[[], Read], path: Path) -> Read:
    """Return what is read; raise what the reader raises once it is clear that the file is to blame.

    Readers do not say why they failed, so the file is then read by itself: where that fails too, the disk is given
    time. A file that can be read gets one more attempt at once, as the first may have met a short fault.

    Raises:
        OSError: what the disk said to the end, or what is the fault of this process.
    """
    pauses = list(PAUSES)
    last = False
    while True:
        try:
            return read()
        except MemoryError:
            raise
        except Exception as error:
            refusal = _refusal(path)
            if refusal is None:
                if last:
                    raise
                last = True
                continue
            if refusal.errno in _OURS or not pauses:
                raise refusal from error
            sleep(pauses.pop(0))


def own_fault(error: BaseException) -> bool:
    """Return whether an error says that this process or machine has run out of something."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OURS)


def _refusal(path: Path) -> OSError | None:
    """Return why the disk does not give a file, or None where it does, or where the file alone is missing."""
    try:
        with path.open("rb") as file:
            while file.read(_BLOCK):
                pass
    except FileNotFoundError as error:
        return None if path.parent.is_dir() else error  # without its folder, a share may be away
    except OSError as error:
        return error
    return None
