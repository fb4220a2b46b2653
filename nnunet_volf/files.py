"""Small files that are whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from nnunet_volf.storage_errors import told_plainly

UNFINISHED = ".tmp"


@contextlib.contextmanager
def replacing(path: Path, aside: Path | None = None) -> Iterator[Path]:
    """Give a place beside a file to write to, and move what is there into the file's place when it is whole.

    What cannot be written is removed, and the file that was there before stays. Two writers do not meet, unless the
    place is given, for a writer that goes by a file's ending.
    """
    aside = aside or path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with told_plainly(path, aside):
            yield aside
            flush(aside)
            aside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # of the disk that has just failed
            aside.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have a file on the disk before its name is, or a power failure could leave a name without its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove_unfinished(folder: Path) -> None:
    """Remove what runs that were killed have left of files like these; for whoever alone may write in the folder."""
    for path in folder.glob(f"*{UNFINISHED}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text."""
    with replacing(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


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
