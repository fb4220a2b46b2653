"""Why an input is left out: a short kind to count by, what was found, and what the user can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnunet_volf.errors import DataError


class Refused(DataError):  # noqa: N818 - what happens to an item, not a fault of the program
    """One file, series or subject cannot be used; the others go on without it."""

    def __init__(self, kind: str, reason: str, advice: str) -> None:
        super().__init__(f"{reason} {advice}")
        self.kind = kind
        self.reason = reason
        self.advice = advice

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes with all three parts."""
        return Refused, (self.kind, self.reason, self.advice)


@dataclass(frozen=True)
class Quarantined:
    """A line of the quarantine table."""

    item: str  # what was refused, as the user knows it: a path relative to the archive, or a case
    stage: str  # find, read, check, convert, compare or preprocess
    kind: str
    reason: str
    advice: str
