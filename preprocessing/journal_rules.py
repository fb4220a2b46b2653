"""What a result in the journal has to look like; one that does not was damaged since, and its task is done again."""

from __future__ import annotations

from typing import Any

from nnunet_volf.described import Number, Text, Truth
from nnunet_volf.documents import Each, Entries, Rule


class _Numeric(Rule):
    """A number of any size, such as an image may hold."""

    what = "a number"

    def fits(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)


class _Name(Rule):
    """A text; names of files may hold bytes that are no text, which Python keeps as such."""

    what = "a text"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str)


_SIDES = (3,)
_MEASURED = ("minimum", "maximum", "mean", "std", "percentile_00_5", "median", "percentile_99_5", "tissue")
FACTS: dict[str, Rule] = {
    "shape": Each(Number(1, whole=True), _SIDES),
    "spacing": Each(Number(1e-9), _SIDES),
    "orientation": Text(),
    "dtype": Text(),
    "content": Text(),
    "notes": Each(Text()),
    **dict.fromkeys(_MEASURED, _Numeric()),
}
_IMAGE: dict[str, Rule] = {
    "path": _Name(),
    "converted": Truth(),
    "format": Text(),
    "facts": Entries(FACTS, tuple(FACTS)),
    "grid": Each(_Numeric(), (12,)),  # origin and direction
    "subject": _Name(),
    "channel": Number(0, whole=True),
    "name": _Name(),
}
_PARTS = ("item", "stage", "kind", "reason", "advice")
_LOOKED_AT = Entries(
    {
        "images": Each(Entries(_IMAGE, (*_IMAGE, "picture"))),
        "quarantined": Each(Entries(dict.fromkeys(_PARTS, _Name()), _PARTS)),
    },
    ("images", "quarantined"),
)
_OTHERS: dict[str, Rule] = {
    "series:": Entries({"series": Each(Text())}, ("series",)),
    "known:": Entries({}, ("content",)),
    "align:": Entries({}, ("images", "refused")),
}


def is_sound(key: Any, result: Any) -> bool:
    """Say whether a result can be what a task with this key came to."""
    if not isinstance(key, str):
        return False
    rule = next((rule for start, rule in _OTHERS.items() if key.startswith(start)), _LOOKED_AT)
    return not rule.problem(result, "")
