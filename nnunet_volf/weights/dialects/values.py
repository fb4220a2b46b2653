"""Values out of a stranger's file: of the type that is expected, or not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str | None:
    """Return a line of text that can be shown on a terminal; control characters in it could change what one sees."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(letter if letter.isprintable() else "?" for letter in value)


def whole(value: Any) -> int | None:
    """Return a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def texts(values: Any) -> tuple[str, ...]:
    """Return those values of a list that are text."""
    found = (text(value) for value in values) if isinstance(values, (list, tuple)) else ()
    return tuple(value for value in found if value is not None)


def numbers(values: Any) -> tuple[float, ...]:
    """Return a list of numbers, also where it was stored as a tensor or an array."""
    listed = values.tolist() if isinstance(values, Tensor) or hasattr(values, "tolist") else values
    listed = listed if isinstance(listed, Iterable) and not isinstance(listed, (str, bytes)) else ()
    return tuple(value for value in listed if isinstance(value, (int, float)))


def plain_only(value: Any) -> Any:
    """Return nested data with arrays as lists, and without anything that is not plain."""
    if isinstance(value, Mapping):
        return {key: plain_only(item) for key, item in value.items() if isinstance(key, (str, int)) and _is_plain(item)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_only(item) for item in value if _is_plain(item)]
    return value.tolist() if hasattr(value, "tolist") else value


def _is_plain(value: Any) -> bool:
    plain = (str, int, float, bool, type(None), list, tuple, set, frozenset, Mapping)
    return isinstance(value, plain) or hasattr(value, "tolist")
