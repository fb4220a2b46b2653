"""What a long run has done so far: one line of JSON a task, only ever appended, whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nnunet_volf.errors import DataError

JOURNAL = "import/journal.jsonl"  # in a raw dataset


@contextlib.contextmanager
def only_import(folder: Path) -> Iterator[None]:
    """Keep others from writing into the journal of a raw dataset meanwhile."""
    try:
        with FileLock(folder / "import" / "lock", timeout=0):
            yield
    except Timeout as error:
        raise DataError(f"Another import into {folder.name} is at work. Wait for it, or stop it.") from error


class Journal:
    """Results of tasks by key; the newest line of a key counts.

    A run that is killed loses at most the line it was writing. Only keys and positions are kept in memory: with 100,000
    volumes the results themselves would be hundreds of megabytes.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._places: dict[str, int] = {}
        self._signatures: dict[str, str] = {}
        self._load()

    def __enter__(self) -> Journal:
        """Use the journal in a with statement."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        """Go through the keys in sorted order."""
        return iter(sorted(self._places))

    def holds(self, key: str, signature: str) -> bool:
        """Say whether a task was done with just this input."""
        return self._signatures.get(key) == signature

    def read(self, key: str) -> dict[str, Any]:
        """Return the result of a task."""
        self._file.seek(self._places[key])
        result: dict[str, Any] = json.loads(self._file.readline())["result"]
        return result

    def write(self, key: str, signature: str, result: dict[str, Any]) -> None:
        """Append the result of a task."""
        place = self._file.seek(0, os.SEEK_END)
        line = json.dumps({"key": key, "signature": signature, "result": result})
        self._file.write(line.encode("ascii") + b"\n")
        self._file.flush()
        self._places[key], self._signatures[key] = place, signature

    def _load(self) -> None:
        self._file.seek(0)
        place = 0
        for line in self._file:
            try:
                entry = json.loads(line if line.endswith(b"\n") else b"")
                key, signature = entry["key"], entry["signature"]
            except (ValueError, TypeError, KeyError):
                self._file.truncate(place)  # torn by a crash; what follows, if anything, was never acknowledged
                break
            self._places[key], self._signatures[key] = place, signature
            place += len(line)
