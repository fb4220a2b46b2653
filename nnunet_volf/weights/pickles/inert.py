"""What stands in for objects of types that are not known here: it holds data and does nothing."""

from __future__ import annotations

from typing import Any


class InertType:
    """A class or function that a file names and that is never imported."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Inert:
    """An object that a file describes and that is never made."""

    def __init__(self, kind: InertType) -> None:
        self.kind = kind
        self.state: Any = None  # what the real object would have been set to
        self.entries: dict[Any, Any] = {}  # what it would have held as a dictionary

    def __repr__(self) -> str:
        return f"<object of {self.kind.name}>"
