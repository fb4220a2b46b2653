"""Settings as data: a frozen dataclass of values and tables of what each value may be.

A method or a trainer states its settings as a subclass of `Settings` with a `Rules` of its own; reading them from
plans, presets, refusals with a suggestion and the way back to plain data are the same for all and live here.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from nnunet_volf.errors import SettingsError

Kind = TypeVar("Kind", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What each setting of a dataclass may be, by its name; bounds are included, ``None`` is no bound."""

    presets: Mapping[str, Mapping[str, Any]]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    switches: tuple[str, ...] = ()
    whole_numbers: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    whole_ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    optional: tuple[str, ...] = ()  # may be None: something else decides then

    def extended(self, **more: Any) -> Rules:
        """Return these rules and more; where both say something of a name, the latter holds."""
        merged: dict[str, Any] = {}
        for name, added in more.items():
            own = getattr(self, name)
            merged[name] = (*own, *added) if isinstance(own, tuple) else {**own, **added}
        return dataclasses.replace(self, **merged)


@dataclass(frozen=True)
class Settings:
    """The base of all settings; construct with `from_mapping` to apply a preset and check every value."""

    rules: ClassVar[Rules]
    plans_key: ClassVar[str]  # where a configuration in a plans file keeps them

    @classmethod
    def from_mapping(cls: type[Kind], values: Mapping[str, Any]) -> Kind:
        """Build settings from plain data (a plans file's), refusing unknown names and impossible values."""
        known, presets = tuple(f.name for f in dataclasses.fields(cls)), cls.rules.presets
        for name in values:
            if name not in known:
                raise SettingsError(f"There is no setting {name!r}. {_suggest(name, known)}")
        preset = values.get("preset", "default")
        if preset not in tuple(presets):  # a list is no key, and plans may hold one
            raise SettingsError(f"preset is {preset!r}. {_suggest(preset, tuple(presets))}")
        merged = {**presets[preset], **values}
        settings = cls(**{name: _tuples(value) for name, value in merged.items()})
        _check_values(settings, cls.rules)
        settings.check_together()
        return settings

    def to_mapping(self) -> dict[str, Any]:
        """Return all settings as plain data that JSON keeps."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    def check_together(self) -> None:
        """Refuse what no table can: values that do not go together, or have a form of their own."""


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Turn ``["epochs=5", "scheme=boxes"]`` into a mapping; values are JSON, a bare word is text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name.strip():
            raise SettingsError(f"{assignment!r} is not of the form name=value, for example epochs=200.")
        try:
            values[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[name.strip()] = text.strip()
    return values


def check_range(name: str, pair: object, low: float, high: float, whole: bool = False) -> None:
    """Refuse what is not two numbers in order and within bounds."""
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(_is_number(v, whole) for v in pair):
        kind = "two whole numbers" if whole else "two numbers"
        raise SettingsError(f"{name} is {pair!r}; it must be {kind}, [smallest, largest].")
    if not low <= pair[0] <= pair[1] <= high:
        raise SettingsError(
            f"{name} is {list(pair)}; the smallest must not exceed the largest, and both must lie between "
            f"{low:g} and {high:g}."
        )


def is_count(value: object) -> bool:
    """Return whether a value is a whole number, 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_values(settings: Settings, rules: Rules) -> None:
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}

    def given(names: Iterable[str]) -> list[str]:
        return [name for name in names if values[name] is not None or name not in rules.optional]

    for name in given(rules.choices):
        if values[name] not in rules.choices[name]:
            raise SettingsError(f"{name} is {values[name]!r}. {_suggest(values[name], rules.choices[name])}")
    for name in given(rules.switches):
        if not isinstance(values[name], bool):
            raise SettingsError(f"{name} is {values[name]!r}; it must be true or false.")
    for name in given(rules.whole_numbers):
        _whole(name, values[name], *rules.whole_numbers[name])
    for name in given(rules.numbers):
        _number(name, values[name], *rules.numbers[name])
    for name in given(rules.ranges):
        check_range(name, values[name], *rules.ranges[name])
    for name in given(rules.whole_ranges):
        check_range(name, values[name], *rules.whole_ranges[name], whole=True)


def _suggest(name: object, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def _is_number(value: object, whole: bool = False) -> bool:
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)


def _whole(name: str, value: Any, low: int, high: int | None) -> None:
    if not _is_number(value, whole=True) or value < low or (high is not None and value > high):
        bounds = f"{low} or more" if high is None else f"between {low} and {high}"
        raise SettingsError(f"{name} is {value!r}; it must be a whole number, {bounds}.")


def _number(name: str, value: Any, low: float, high: float) -> None:
    if not _is_number(value) or not low <= value <= high:
        raise SettingsError(f"{name} is {value!r}; it must be a number between {low:g} and {high:g}.")
