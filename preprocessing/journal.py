"""What a long run has done so far: one line of JSON a task, only ever appended, whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nnunet_volf.locks import only_one
from nnunet_volf.storage_errors import storage_error

JOURNAL = "import/journal.jsonl"  # in a raw dataset


def only_import(folder: Path) -> AbstractContextManager[None]:
    """Keep others from writing into the journal of a raw dataset meanwhile."""
    return only_one(folder / "import" / "lock", f"Another import into {folder.name}")


class Journal:
    """Results of tasks by key; the newest line of a key counts.

    A run that is killed loses at most the line it was writing, and so does one whose disk is full. Only keys and
    positions are kept in memory: with 100,000 volumes the results themselves would be hundreds of megabytes.
    """

    def __init__(self, path: Path, is_sound: Callable[[Any, Any], bool] = lambda _key, _result: True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._end = path.open("ab", buffering=0)  # a buffer would try again, later, to write what did not fit
        self._file = path.open("rb")
        self._is_sound = is_sound  # what is not was damaged since, and its task is done again
        self._places: dict[str, int] = {}
        self._signatures: dict[str, str] = {}
        self._load()

    def __enter__(self) -> Journal:
        """Use the journal in a with statement."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._end.close()
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
        """Append the result of a task; where that fails, what was there stays, and nothing more is appended."""
        line = json.dumps({"key": key, "signature": signature, "result": result}).encode("ascii") + b"\n"
        place = self._end.seek(0, os.SEEK_END)
        try:
            rest = memoryview(line)
            while rest:  # a disk that gets full takes a part first
                rest = rest[self._end.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # else the torn line is cut off when the journal is next opened
                self._end.truncate(place)
            self._end.close()
            raise storage_error(error, self._path) or error from error
        self._places[key], self._signatures[key] = place, signature

    def _load(self) -> None:
        self._file.seek(0)
        place = 0
        for line in self._file:
            try:
                entry = json.loads(line if line.endswith(b"\n") else b"")
                key, signature, result = entry["key"], entry["signature"], entry["result"]
            except (ValueError, TypeError, KeyError, RecursionError):
                self._end.truncate(place)  # torn by a crash; what follows, if anything, was never acknowledged
                break
            if self._is_sound(key, result):
                self._places[key], self._signatures[key] = place, signature
            place += len(line)
        self._file.seek(0, os.SEEK_END)  # lets go of what it has read ahead, which may have been cut off since
