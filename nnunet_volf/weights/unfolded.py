"""How much a file's content is when it is followed to its ends: few bytes can hold the same list a billion times."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from nnunet_volf.errors import WeightsError

# Values that are no container. An nnU-Net checkpoint of a dataset of 100,000 listed cases has half a million.
MOST_VALUES = 5_000_000


def check_unfolded(path: Path, content: Any) -> None:
    """Refuse content that is endless, or too much to be walked through."""
    sizes: dict[int, int] = {}  # of containers whose end is known
    entered: set[int] = set()
    todo = [content] if _holds(content) else []
    while todo:
        value = todo[-1]
        ahead = [one for one in _inner(value) if _holds(one) and id(one) not in sizes]
        if id(value) not in entered:
            entered.add(id(value))
            todo += ahead
            continue
        todo.pop()
        if id(value) in sizes:
            continue
        if ahead:  # not known though all that it holds has been walked through: it is among what it is held by
            raise WeightsError(f"{path} describes itself by data that holds itself. Do not use it.")
        sizes[id(value)] = sum(sizes[id(one)] if _holds(one) else 1 for one in _inner(value)) + 1
        if sizes[id(value)] > MOST_VALUES:
            raise WeightsError(
                f"{path} holds more than {MOST_VALUES:,} values when its lists are followed to their ends, as no "
                "weights need. Do not use it."
            )


def _holds(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple, set, frozenset))  # all that our reader makes


def _inner(value: Any) -> Iterable[Any]:
    return chain(value.keys(), value.values()) if isinstance(value, dict) else value
