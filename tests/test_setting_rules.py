"""Settings as data, by a class with one setting of each kind."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.errors import SettingsError
from nnunet_volf.setting_rules import Rules, Settings, parse_assignments


@dataclass(frozen=True, kw_only=True)
class Tiny(Settings):
    plans_key: ClassVar[str] = "tiny"
    rules: ClassVar[Rules] = Rules(
        presets={"default": {}, "fast": {"steps": 2, "side": (1.0, 2.0)}},
        choices={"kind": ("round", "square")},
        switches=("on",),
        whole_numbers={"steps": (1, 9), "seed": (0, None)},
        numbers={"rate": (0.0, 1.0)},
        ranges={"side": (0.5, 4.0)},
        whole_ranges={"count": (1, 10)},
        optional=("rate", "count"),
    )

    preset: str = "default"
    kind: str = "round"
    on: bool = True
    steps: int = 3
    seed: int = 0
    rate: float | None = None
    side: tuple[float, float] = (1.0, 1.0)
    count: tuple[int, int] | None = None

    def check_together(self) -> None:
        if self.kind == "square" and not self.on:
            raise SettingsError("a square is always on")


def test_without_values_the_defaults_hold() -> None:
    assert Tiny.from_mapping({}) == Tiny()


def test_a_preset_is_under_what_is_said_beside_it() -> None:
    made = Tiny.from_mapping({"preset": "fast", "steps": 5})
    assert (made.steps, made.side, made.preset) == (5, (1.0, 2.0), "fast")


def test_lists_as_json_has_them_become_tuples() -> None:
    assert Tiny.from_mapping({"side": [1, 2], "count": [3, 4]}).count == (3, 4)
    hash(Tiny.from_mapping({"side": [1, 2]}))


@pytest.mark.parametrize("name", ["steps", "kind", "on", "side"])
def test_none_is_refused_where_nothing_else_decides(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is None"):
        Tiny.from_mapping({name: None})


def test_none_is_taken_where_something_else_decides() -> None:
    assert Tiny.from_mapping({"rate": None, "count": None}) == Tiny()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 1}, "There is no setting 'step'. Did you mean 'steps'?"),
        ({"zzz": 1}, "There is no setting 'zzz'. Known: preset, kind, on, steps, seed, rate, side, count."),
        ({"preset": "fats"}, "preset is 'fats'. Did you mean 'fast'?"),
        ({"preset": ["fast"]}, "preset is ['fast']. Did you mean 'fast'?"),
        ({"kind": "squares"}, "kind is 'squares'. Did you mean 'square'?"),
        ({"kind": 1}, "kind is 1. Known: round, square."),
        ({"on": 1}, "on is 1; it must be true or false."),
        ({"steps": 10}, "steps is 10; it must be a whole number, between 1 and 9."),
        ({"steps": 2.0}, "steps is 2.0; it must be a whole number, between 1 and 9."),
        ({"steps": True}, "steps is True; it must be a whole number, between 1 and 9."),
        ({"seed": -1}, "seed is -1; it must be a whole number, 0 or more."),
        ({"rate": 1.5}, "rate is 1.5; it must be a number between 0 and 1."),
        ({"rate": "much"}, "rate is 'much'; it must be a number between 0 and 1."),
        ({"rate": float("nan")}, "rate is nan; it must be a number between 0 and 1."),
        ({"side": 1}, "side is 1; it must be two numbers, [smallest, largest]."),
        ({"side": [1, 2, 3]}, "side is (1, 2, 3); it must be two numbers, [smallest, largest]."),
        ({"side": [2, 1]}, "side is [2, 1]; the smallest must not exceed the largest, and both must lie between 0.5 "),
        ({"count": [1.5, 2]}, "count is (1.5, 2); it must be two whole numbers, [smallest, largest]."),
        ({"count": [0, 2]}, "count is [0, 2]; the smallest must not exceed the largest"),
        ({"kind": "square", "on": False}, "a square is always on"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_found_and_what_would_do(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Tiny.from_mapping(values)
    assert str(refusal.value).startswith(message)


@st.composite
def pairs(draw: st.DrawFn, numbers: st.SearchStrategy[Any]) -> list[Any]:
    return sorted([draw(numbers), draw(numbers)])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "preset": st.sampled_from(["default", "fast"]),
            "kind": st.just("round"),
            "on": st.booleans(),
            "steps": st.integers(1, 9),
            "seed": st.integers(0),
            "rate": st.none() | st.floats(0, 1),
            "side": pairs(st.floats(0.5, 4)),
            "count": st.none() | pairs(st.integers(1, 10)),
        },
    )
)
def test_plain_data_and_settings_are_two_forms_of_the_same(values: dict[str, Any]) -> None:
    made = Tiny.from_mapping(values)
    plain = made.to_mapping()
    assert json.loads(json.dumps(plain)) == plain
    assert plain.keys() == {field.name for field in dataclasses.fields(Tiny)}
    assert Tiny.from_mapping(plain) == made


def test_assignments_hold_json_or_a_bare_word() -> None:
    assert parse_assignments(["epochs=5", "kind=square", "side=[1,2]", "on=false", "rate=null", "a = x=y "]) == {
        "epochs": 5, "kind": "square", "side": [1, 2], "on": False, "rate": None, "a": "x=y",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["epochs", "=5", " = 5", ""])
def test_what_assigns_nothing_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not of the form name=value, for example epochs=200"):
        parse_assignments([text])


def test_extended_rules_hold_both_and_the_latter_of_two_that_name_the_same() -> None:
    first = Rules(presets={"default": {}}, numbers={"a": (0, 1), "b": (0, 1)}, switches=("s",))
    both = first.extended(presets={"paper": {"a": 1}}, numbers={"b": (5, 6)}, switches=("t",))
    assert both.presets == {"default": {}, "paper": {"a": 1}}
    assert both.numbers == {"a": (0, 1), "b": (5, 6)}
    assert both.switches == ("s", "t")
    assert (first.switches, first.numbers["b"]) == (("s",), (0, 1)), "the first rules are left as they are"
