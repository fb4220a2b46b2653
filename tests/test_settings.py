"""Settings are checked when they are read, and say what is wrong with them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.errors import SettingsError
from nnunet_volf.optimizers import OPTIMIZERS
from nnunet_volf.pretext.volf.settings import AUGMENTATIONS, PARTNERS, PRESETS, SCHEMES, VolFSettings
from nnunet_volf.setting_rules import parse_assignments


def message(**values: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        VolFSettings.from_mapping(values)
    return str(refused.value)


def between(low: float, high: float) -> st.SearchStrategy[list[float]]:
    """Pairs of numbers, the smaller first."""
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted)


def whole_between(low: int, high: int) -> st.SearchStrategy[list[int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)


VALID = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from(list(PRESETS)),
        "scheme": st.sampled_from(SCHEMES),
        "coefficients": st.integers(2, 16),
        "foreground_ratio": st.floats(0.05, 0.95),
        "full_cover": st.booleans(),
        "size_fraction": st.none() | between(0.001, 1.0),
        "size_minimum": st.integers(1, 100),
        "size_voxels": st.none() | st.lists(whole_between(1, 100), min_size=2, max_size=3),
        "boxes": whole_between(1, 10_000),
        "partner": st.sampled_from(PARTNERS),
        "same_share": st.floats(0, 1),
        "minimum_distance": st.floats(0, 4),
        "augmentation": st.sampled_from(AUGMENTATIONS),
        "scale": between(0.1, 4.0),
        "flip": st.floats(0, 1) | st.integers(0, 1),
        "intensity": st.booleans(),
        "percentile_low": between(0.0, 49.0),
        "percentile_high": between(51.0, 100.0),
        "gamma": between(0.05, 20.0),
        "invert": st.floats(0, 1),
        "turned": st.booleans(),
        "reuse_crops": st.booleans(),
        "epochs": st.integers(1),
        "optimizer": st.sampled_from(OPTIMIZERS),
        "learning_rate": st.none() | st.floats(1e-8, 10),
        "panel_every": st.integers(0, 1000),
        "save_every_minutes": st.floats(0, 1e6),
    },
)


# ----------------------------------------------------------------------------------------- from and to


@given(VALID)
def test_settings_survive_the_way_through_a_plans_file(values: dict[str, Any]) -> None:
    settings = VolFSettings.from_mapping(values)
    assert VolFSettings.from_mapping(json.loads(json.dumps(settings.to_mapping()))) == settings


@given(VALID)
def test_a_value_that_is_given_is_kept(values: dict[str, Any]) -> None:
    kept = VolFSettings.from_mapping(values).to_mapping()
    assert {name: kept[name] for name in values} == values


def test_all_settings_are_written_as_plain_data() -> None:
    written = VolFSettings.from_mapping({"preset": "reference-2023"}).to_mapping()
    assert set(written) == {field.name for field in dataclasses.fields(VolFSettings)}
    assert written["size_voxels"] == [[8, 40], [8, 80], [8, 80]]


def test_no_values_are_the_defaults() -> None:
    assert VolFSettings.from_mapping({}) == VolFSettings()


def test_lists_become_tuples_so_that_settings_can_be_compared_and_hashed() -> None:
    settings = VolFSettings.from_mapping({"size_voxels": [[8, 40], [8, 80]], "scale": [0.5, 2.0]})
    assert (settings.size_voxels, settings.scale) == (((8, 40), (8, 80)), (0.5, 2.0))
    assert isinstance(hash(settings), int)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VolFSettings().epochs = 5  # type: ignore[misc]


def test_the_mapping_that_is_given_is_left_as_it_is() -> None:
    values = {"preset": "reference-2025", "size_voxels": [[1, 2], [3, 4]]}
    VolFSettings.from_mapping(values)
    assert values == {"preset": "reference-2025", "size_voxels": [[1, 2], [3, 4]]}


# --------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "reference-2025",
            {
                "scheme": "grid",
                "coefficients": 4,
                "foreground_ratio": 0.7,
                "full_cover": False,
                "size_voxels": [[8, 32]] * 3,
                "partner": "same",
                "scale": [0.7, 1.5],
                "flip": 0.5,
                "intensity": True,
                "percentile_low": [0.1, 2.0],
                "percentile_high": [98.0, 99.9],
                "gamma": [0.7, 1.5],
                "invert": 0.25,
            },
        ),
        (
            "reference-2023",
            {
                "scheme": "boxes",
                "coefficients": 4,
                "boxes": [10, 40],
                "size_voxels": [[8, 40], [8, 80], [8, 80]],
                "partner": "other",
                "scale": [1.0, 1.0],
                "flip": 0.5,
                "intensity": False,
            },
        ),
    ],
)
def test_a_preset_holds_what_its_publication_used(preset: str, expected: dict[str, Any]) -> None:
    found = VolFSettings.from_mapping({"preset": preset}).to_mapping()
    assert {name: found[name] for name in expected} == expected


def test_a_value_given_beside_a_preset_goes_before_it() -> None:
    settings = VolFSettings.from_mapping({"preset": "reference-2023", "boxes": [1, 2]})
    assert (settings.boxes, settings.scheme) == ((1, 2), "boxes")


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_remember_their_preset(preset: str) -> None:
    assert VolFSettings.from_mapping({"preset": preset}).preset == preset


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ({}, 1e-3),
        ({"optimizer": "sgd"}, 1e-2),
        ({"optimizer": "adamw"}, 1e-3),
        ({"optimizer": "adamw", "learning_rate": 0.5}, 0.5),
    ],
)
def test_the_learning_rate_follows_the_optimizer_unless_it_is_given(values: dict[str, Any], rate: float) -> None:
    assert VolFSettings.from_mapping(values).peak_learning_rate == rate


# -------------------------------------------------------------------------------------------- refusals


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    assert message(epoch=5) == "There is no setting 'epoch'. Did you mean 'epochs'?"


def test_a_name_like_no_other_is_refused_with_all_known_ones() -> None:
    refusal = message(zzz=5)
    assert refusal.startswith("There is no setting 'zzz'. Known: preset, crops, ")
    assert all(field.name in refusal for field in dataclasses.fields(VolFSettings))


def test_an_unknown_preset_is_refused_with_the_nearest_known_one() -> None:
    assert message(preset="reference2025") == "preset is 'reference2025'. Did you mean 'reference-2025'?"


@pytest.mark.parametrize("preset", [["default"], {"a": 1}, None, 3])
def test_a_preset_that_is_no_name_is_refused(preset: Any) -> None:
    assert message(preset=preset).startswith(f"preset is {preset!r}.")


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("scheme", "box", "Did you mean 'boxes'?"),
        ("partner", "others", "Did you mean 'other'?"),
        ("augmentation", "nnU-Net", "Did you mean 'nnunet'?"),
        ("optimizer", "adam", "Did you mean 'adamw'?"),
        ("scheme", 3, "Known: grid, boxes, shuffle."),
        ("scheme", ["grid"], "Did you mean 'grid'?"),
    ],
)
def test_a_word_that_is_no_choice_is_refused(name: str, value: Any, hint: str) -> None:
    refusal = message(**{name: value})
    assert refusal.startswith(f"{name} is ")
    assert refusal.endswith(hint)


@pytest.mark.parametrize("name", ["full_cover", "intensity", "turned", "reuse_crops"])
@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_a_switch_is_true_or_false(name: str, value: Any) -> None:
    assert message(**{name: value}) == f"{name} is {value!r}; it must be true or false."


@pytest.mark.parametrize(
    ("name", "bounds", "wrong"),
    [
        ("coefficients", "between 2 and 16", [1, 17, 4.0, True, "4", None]),
        ("size_minimum", "1 or more", [0, 1.5]),
        *((name, "1 or more", [0, -1, 2.5]) for name in ("epochs", "iterations", "validation_samples")),
        *((name, "1 or more", [0, False]) for name in ("save_every_epochs", "nonfinite_limit")),
        *((name, "0 or more", [-1, 0.5, "x"]) for name in ("panel_every", "validation_seed")),
    ],
)
def test_a_whole_number_has_bounds(name: str, bounds: str, wrong: list[Any]) -> None:
    for value in wrong:
        assert message(**{name: value}) == f"{name} is {value!r}; it must be a whole number, {bounds}."


@pytest.mark.parametrize(
    ("name", "bounds", "wrong"),
    [
        ("foreground_ratio", "0.05 and 0.95", [0.04, 0.96, "0.5", None, float("nan")]),
        *((name, "0 and 1", [-0.1, 1.1, True]) for name in ("same_share", "flip", "invert", "weight_decay")),
        ("minimum_distance", "0 and 4", [-1, 4.5]),
        ("save_every_minutes", "0 and 1e+06", [-1, 1e7, float("inf")]),
        ("learning_rate", "1e-08 and 10", [0, 11, "0.01"]),
    ],
)
def test_a_number_has_bounds(name: str, bounds: str, wrong: list[Any]) -> None:
    for value in wrong:
        assert message(**{name: value}) == f"{name} is {value!r}; it must be a number between {bounds}."


RANGES = [
    ("scale", 0.1, 4.0),
    ("percentile_low", 0.0, 49.0),
    ("percentile_high", 51.0, 100.0),
    ("gamma", 0.05, 20.0),
    ("size_fraction", 1e-3, 1.0),
]


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_a_range_is_two_numbers_in_order_and_within_bounds(name: str, low: float, high: float) -> None:
    for wrong in ([high, low], [low - 1, high], [low, high + 1], [low, float("nan")]):
        refusal = message(**{name: wrong})
        assert refusal == (
            f"{name} is {wrong}; the smallest must not exceed the largest, "
            f"and both must lie between {low:g} and {high:g}."
        )


@pytest.mark.parametrize("name", [name for name, _, _ in RANGES])
@pytest.mark.parametrize("wrong", [1.0, [1.0], [1.0, 1.0, 1.0], "12", [True, True], ["1", "2"], {"a": 1}])
def test_a_range_is_nothing_but_two_numbers(name: str, wrong: Any) -> None:
    refusal = message(**{name: wrong})
    assert refusal.startswith(f"{name} is ")
    assert refusal.endswith("; it must be two numbers, [smallest, largest].")


@pytest.mark.parametrize(("name", "low", "high"), RANGES)
def test_both_ends_of_a_range_are_allowed(name: str, low: float, high: float) -> None:
    assert getattr(VolFSettings.from_mapping({name: [low, high]}), name) == (low, high)


@pytest.mark.parametrize("wrong", [[1.5, 4], [10.0, 40.0], [1, 2, 3], 10])
def test_numbers_of_boxes_are_whole(wrong: Any) -> None:
    assert message(boxes=wrong).endswith("; it must be two whole numbers, [smallest, largest].")


@pytest.mark.parametrize("wrong", [[0, 4], [5, 4], [1, 10_001]])
def test_numbers_of_boxes_are_in_order_and_within_bounds(wrong: list[int]) -> None:
    assert message(boxes=wrong).startswith(f"boxes is {wrong}; the smallest must not exceed the largest")


@pytest.mark.parametrize("wrong", [[], [[8, 32]], 5, "8-32"])
def test_sizes_in_voxels_are_a_pair_for_each_axis(wrong: Any) -> None:
    assert message(size_voxels=wrong).endswith("; it must hold one [smallest, largest] pair for each axis.")


@pytest.mark.parametrize("wrong", [[8.5, 32], [8], 8, [32, 8], [0, 4]])
def test_a_wrong_pair_of_sizes_is_named_by_its_axis(wrong: Any) -> None:
    assert message(size_voxels=[[8, 32], wrong, [8, 32]]).startswith("size_voxels of axis 1 is ")


def test_a_wrong_value_beside_a_preset_is_refused_too() -> None:
    assert message(preset="reference-2025", coefficients=1).startswith("coefficients is 1;")


# ----------------------------------------------------------------------------------------- assignments


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("epochs=5", 5),
        ("foreground_ratio=0.5", 0.5),
        ("scheme=boxes", "boxes"),
        ('scheme="boxes"', "boxes"),
        ("scale=[0.5, 2.0]", [0.5, 2.0]),
        ("full_cover=false", False),
        ("learning_rate=null", None),
        (" epochs = 5 ", 5),
        ("scheme= boxes ", "boxes"),
        ("scheme=", ""),
        ("scheme=a=b", "a=b"),
    ],
)
def test_an_assignment_is_a_name_and_a_value(text: str, value: Any) -> None:
    (found,) = parse_assignments([text]).values()
    assert found == value


def test_assignments_are_gathered_and_the_last_of_a_name_counts() -> None:
    assert parse_assignments(["epochs=5", "scheme=grid", "epochs=6"]) == {"epochs": 6, "scheme": "grid"}


@pytest.mark.parametrize("text", ["epochs", "=5", " =5", ""])
def test_what_is_no_assignment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_assignments([text])
    assert str(refused.value) == f"{text!r} is not of the form name=value, for example epochs=200."


@given(VALID)
def test_settings_can_be_written_as_assignments(values: dict[str, Any]) -> None:
    assert parse_assignments([f"{name}={json.dumps(value)}" for name, value in values.items()]) == values
