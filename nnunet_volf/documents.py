"""JSON and tables that others wrote: read within a limit, and with a message for whatever is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_volf.errors import DataError
from nnunet_volf.limits import DOCUMENT
from nnunet_volf.printable import shortened


def read_text(path: Path) -> str:
    """Read a file of text in UTF-8, with or without the mark that spreadsheets write first."""
    try:
        size = path.stat().st_size
        if size > DOCUMENT.bytes():
            raise DataError(
                f"{path} has {size / 1e9:.2f} GB; lists and descriptions may have {DOCUMENT.bytes() / 1e9:g} GB. "
                f"{DOCUMENT.how_to_raise(size)}."
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8 (byte {error.start} cannot be read). Save it in UTF-8, from a spreadsheet as "
            "'CSV UTF-8'."
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. Bring it back, or make it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from error


def read_document(path: Path) -> Any:
    """Read plain data from a JSON file."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not valid JSON ({error.msg}, line {error.lineno}). Correct it, or make it again."
        ) from error
    except RecursionError as error:
        raise DataError(f"{path} holds lists in lists, many hundred deep. Make it again.") from error
    except ValueError as error:  # a whole number of more than 4300 digits
        raise DataError(f"{path} holds a number of thousands of digits. Correct it, or make it again.") from error


class Rule:
    """What a value of a document has to be."""

    what = "anything"

    def problem(self, value: Any, place: str) -> str:
        """Say where a value is not what it has to be, and what it is; "" where all is well."""
        return "" if self.fits(value) else _wrong(place, value, self.what)

    def fits(self, value: Any) -> bool:
        """Say whether a value is alright."""
        return True


@dataclass(frozen=True)
class Each(Rule):
    """A list, of so many values, each after the same rule."""

    rule: Rule
    lengths: tuple[int, ...] = ()

    def problem(self, value: Any, place: str) -> str:
        """Look at each value."""
        if not isinstance(value, list):
            return _wrong(place, value, "a list")
        if self.lengths and len(value) not in self.lengths:
            return _wrong(place, value, f"a list of {' or '.join(map(str, self.lengths))}")
        return next(filter(None, (self.rule.problem(item, f"{place}[{n}]") for n, item in enumerate(value))), "")


@dataclass(frozen=True)
class Entries(Rule):
    """An object: some entries by name, which may be needed, and a rule for all others."""

    known: Mapping[str, Rule] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    others: Rule = Rule()  # noqa: RUF009 - it holds nothing

    def problem(self, value: Any, place: str) -> str:
        """Look at each entry."""
        if not isinstance(value, dict):
            return _wrong(place, value, "an object with entries in braces")
        lacking = [name for name in self.needed if name not in value]
        if lacking:
            return f"{place or 'it'} has no {lacking[0]!r}"
        within = f"{place}." if place else ""
        problems = (self.known.get(n, self.others).problem(v, f"{within}{shortened(n)}") for n, v in value.items())
        return next(filter(None, problems), "")


def check_document(path: Path, document: Any, rule: Rule, advice: str) -> None:
    """Refuse a document that is not as its readers expect it."""
    problem = rule.problem(document, "")
    if problem:
        raise DataError(f"{path}: {problem}. {advice}")


def _wrong(place: str, value: Any, what: str) -> str:
    return f"{place or 'it'} is {shortened(json.dumps(value, ensure_ascii=False, default=str))}, which is not {what}"
