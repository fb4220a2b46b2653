"""Small files that are whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON beside its place, and move it there when it is whole."""
    aside = path.with_name(f"{path.name}.tmp")
    aside.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    aside.replace(path)
