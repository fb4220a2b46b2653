"""Read the tables that list images: CSV, or JSON of any shape, with their patients and channels where they say so."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_volf.documents import read_document, read_text
from nnunet_volf.errors import DataError

TABLE_ENDINGS = (".csv", ".tsv", ".json")

_PATH_COLUMNS = ("path", "image_path", "image", "file", "filename")
_SUBJECT_COLUMNS = ("subject", "case", "patient", "id")
_CHANNEL_COLUMNS = ("channel", "modality", "sequence")


class TableRow(NamedTuple):
    """One image, as a table names it."""

    path: str
    subject: str | None
    channel: str | None


def read_table(table: Path) -> list[TableRow]:
    """Return the rows of a table with one of TABLE_ENDINGS; all have a path."""
    cells = _json_cells(table) if table.suffix.lower() == ".json" else _csv_cells(table)
    return [_row(number, row) for number, row in enumerate(cells, start=1)]


def _row(number: int, row: dict[str, str]) -> TableRow:
    path = _column(row, _PATH_COLUMNS)
    if not path:
        raise DataError(
            f"Row {number} of the table names no image. It has {', '.join(row) or 'no columns'}; the path belongs "
            f"into a column called one of: {', '.join(_PATH_COLUMNS)}."
        )
    return TableRow(path, _column(row, _SUBJECT_COLUMNS), _column(row, _CHANNEL_COLUMNS))


def _column(row: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((row[name] for name in names if row.get(name)), None)


def _csv_cells(table: Path) -> list[dict[str, str]]:
    text = read_text(table)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        return [
            {key.strip().lower(): (value or "").strip() for key, value in row.items() if key is not None}
            for row in csv.DictReader(io.StringIO(text), delimiter=delimiter)
        ]
    except csv.Error as error:
        raise DataError(f"{table} is no table ({error}). Save it as 'CSV UTF-8'.") from error


def _json_cells(table: Path) -> list[dict[str, str]]:
    """Read a list of paths or rows, or any tree whose leaves hold ``image_path`` (nnssl's pretrain_data.json)."""
    try:
        return list(_json_leaves(read_document(table), ""))
    except RecursionError as error:
        raise DataError(f"{table} holds lists in lists, many hundred deep. Give the list as CSV.") from error


def _json_leaves(content: Any, subject: str) -> Iterator[dict[str, str]]:
    if isinstance(content, str):
        yield {"path": content}
    elif isinstance(content, list):
        for entry in content:
            yield from _json_leaves(entry, subject)
    elif isinstance(content, dict) and _column(content, _PATH_COLUMNS):
        yield {"subject": subject, **{key: value for key, value in content.items() if isinstance(value, str)}}
    elif isinstance(content, dict):
        for key, entry in content.items():
            if isinstance(entry, (dict, list)):
                yield from _json_leaves(entry, f"{subject}/{key}" if isinstance(entry, dict) else subject)
