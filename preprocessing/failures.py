"""What is said of an item that has no result: its function failed, its worker died, or it took too long."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nnunet_volf.errors import DataError

from .budget import gigabytes
from .refusals import Refused

_PATH = re.compile(r"""'[^']*[/\\][^']*'|"[^"]*[/\\][^"]*"|\S*[/\\]\S*""")
_MESSAGE_LENGTH = 300
_CRASHED = (-11, 139, -7, 135)  # SIGSEGV and SIGBUS


@dataclass(frozen=True)
class Death:
    """How a worker process ended: its exit code where it is known, or that memory ran out within Python."""

    code: int | None = None
    out_of_memory: bool = False

    @classmethod
    def of(cls, problem: BaseException | None) -> Death:
        """Return what an exception tells of it."""
        return cls(getattr(problem, "exitcode", None) or None, isinstance(problem, MemoryError))


@dataclass(frozen=True)
class Room:
    """The memory that an item was thought to need, and what all that run beside it share; bytes, 0 for unknown."""

    needed: int = 0
    shared: int = 0

    def __str__(self) -> str:
        """Say both, or nothing."""
        if not self.needed:
            return ""
        text = f" It was estimated to need {gigabytes(self.needed)}"
        return f"{text}, of {gigabytes(self.shared)} for all workers together." if self.shared else f"{text}."


class CannotWork(DataError):  # noqa: N818 - what workers are, not a fault of the program
    """Workers never get to work."""

    def __init__(self, pools: int) -> None:
        super().__init__(
            f"Worker processes ended {pools} times in a row before they had done anything. Try fewer workers "
            "(-np), or none (-np 0), which shows the error itself."
        )


def describe_error(error: BaseException) -> str:
    """Return the type and message of an exception in one line, without paths."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(_PATH.sub("...", text).split())
    if len(line) > _MESSAGE_LENGTH:
        line = f"{line[:_MESSAGE_LENGTH]}..."
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def failed(error: Exception) -> Refused:
    """Say that its function raised something nobody foresaw."""
    return Refused(
        "error",
        f"It failed with {describe_error(error)}.",
        "Look at the file with another program. If it opens there, please report this message.",
    )


def died(death: Death, room: Room = Room()) -> Refused:
    """Say that its worker died at both tries: how, how much memory that was about, and what to change."""
    if death.out_of_memory:
        ended = "ran out of memory"
    else:
        ended = "ended without a word" if death.code is None else f"ended with exit code {death.code}"
    return Refused(
        "worker",
        f"Its worker process {ended}, twice, the second time with nothing else running.{room}",
        _advice(death, room),
    )


def lost(workers: int, last: str) -> Refused:
    """Say that one worker of a cluster after the other was lost with it, and what became of the last."""
    return Refused(
        "worker",
        f"{workers} workers of the cluster were lost with it, one after the other; of the last: {last}.",
        "If they were stopped or ran out of time, run again. If it happens with this one only, it may have taken the "
        "memory of its whole job with it: give jobs more.",
    )


def no_memory_here() -> Refused:
    """Say that there was not enough memory in this very process."""
    return Refused("worker", "There was not enough memory for it.", _advice(Death(out_of_memory=True), Room()))


def too_slow(seconds: float | None) -> Refused:
    """Say that it was stopped after its time."""
    return Refused(
        "timeout",
        f"It took longer than {seconds:g} seconds and was stopped.",
        "Look whether the storage answers, and whether the file is far larger than the others; then run again.",
    )


def _advice(death: Death, room: Room) -> str:
    if death.code in _CRASHED:
        return "That is a crash within a reader, mostly of a damaged file: copy or export it again."
    if room.shared and room.needed > room.shared:
        return (
            "It is too large for the memory here: do it on a machine, or in a job or container, that may use more "
            "(what is done stays done), or plan a coarser spacing."
        )
    often = "" if death.out_of_memory else "Most often the system ended it for want of memory. "
    return (
        f"{often}Close other programs, raise the limit of the job or container, or use a machine with more memory. "
        "Where it happens to many, let fewer run at once: -np, or --memory when preprocessing."
    )
