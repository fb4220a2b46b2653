"""Texts that may be shown to others: the names of files stay, the folders that they lie in do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# An absolute path of two parts or more: /data/x.pth, C:\data\x.pth, \\server\share\x.pth. Not and/or, 3/4 or https://x/y.
_POSIX = re.compile(r"(?<![\w./:~-])~?/(?:[^\s/'\"<>|,;:()]+/)+([^\s/'\"<>|,;()]*)")
_WINDOWS = re.compile(r"(?:\b[A-Za-z]:[\\/]|\\\\)(?:[^\\/'\"<>|:*?\n]+[\\/])*([^\s\\/'\"<>|:*?,;()]*)")


def remover(known: Iterable[Path | str | None]) -> Callable[[Any], str]:
    """Return a function that takes folders out of texts.

    Args:
        known: paths that texts are likely to hold; these are found even if they hold spaces.
    """
    paths = sorted({str(path) for path in known if path}, key=len, reverse=True)

    def without(value: Any) -> str:
        text = str(value)
        for path in paths:
            if len(Path(path).parts) > 1:
                text = text.replace(path, Path(path).name)
        return _POSIX.sub(_name, _WINDOWS.sub(_name, text))

    return without


def file_name(path: str) -> str:
    """Return the name of a file, whichever system the path comes from."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _name(found: re.Match[str]) -> str:
    return found[1] or "a folder"
