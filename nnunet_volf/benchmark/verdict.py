"""What the comparison says, in one sentence that names its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """The sentence, and what stands below it."""

    sentence: str
    details: tuple[str, ...]
