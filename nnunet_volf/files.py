"""Small files that are whole or not there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a place beside a file to write to, and move what is there into the file's place when it is whole."""
    aside = path.with_name(f"{path.name}.tmp")
    yield aside
    aside.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read plain data from JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, as sha256sum prints it."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
