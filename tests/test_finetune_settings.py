"""The settings of fine-tuning: defaults, presets, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.errors import SettingsError
from nnunet_volf.finetune_settings import FINE_TUNE_PRESETS, FIRST, FineTuneSettings
from nnunet_volf.optimizers import OPTIMIZERS

VALID = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from(list(FINE_TUNE_PRESETS)),
        "epochs": st.integers(1),
        "iterations": st.integers(1),
        "optimizer": st.sampled_from(OPTIMIZERS),
        "learning_rate": st.none() | st.floats(1e-8, 10),
        "weight_decay": st.floats(0, 1),
        "warmup": st.floats(0, 0.45),
        "first": st.sampled_from(FIRST),
        "first_share": st.floats(0.001, 0.45),
        "layer_decay": st.floats(0.1, 1),
        "save_every_epochs": st.integers(1),
        "save_every_minutes": st.floats(0, 1e6),
        "nonfinite_limit": st.integers(1),
    },
)


def message(**values: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        FineTuneSettings.from_mapping(values)
    return str(refused.value)


@given(VALID)
def test_settings_survive_the_way_through_a_plans_file_and_keep_what_is_given(values: dict[str, Any]) -> None:
    settings = FineTuneSettings.from_mapping(values)
    kept = json.loads(json.dumps(settings.to_mapping()))
    assert FineTuneSettings.from_mapping(kept) == settings
    assert {name: kept[name] for name in values} == values


def test_the_preset_nnunet_states_every_number_of_nnunets_own_training() -> None:
    settings = FineTuneSettings.from_mapping({"preset": "nnunet"})
    assert (settings.epochs, settings.iterations) == (1000, 250)
    assert (settings.optimizer, settings.peak_learning_rate, settings.weight_decay) == ("sgd", 1e-2, 3e-5)
    assert (settings.warmup, settings.first, settings.layer_decay) == (0.0, "none", 1.0)


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ({"optimizer": "sgd"}, 1e-2),
        ({"optimizer": "adamw"}, 1e-3),
        ({"optimizer": "adamw", "learning_rate": 0.5}, 0.5),
    ],
)
def test_the_highest_rate_follows_the_optimizer_unless_it_is_given(values: dict[str, Any], rate: float) -> None:
    assert FineTuneSettings.from_mapping(values).peak_learning_rate == rate


def test_a_share_without_a_first_part_is_not_used() -> None:
    assert FineTuneSettings.from_mapping({"first_share": 0.5}).first_stage == 0
    assert FineTuneSettings.from_mapping({"first_share": 0.5, "first": "heads"}).first_stage == 0.5
    FineTuneSettings.from_mapping({"first_share": 0.5, "warmup": 0.5})


def test_stages_that_leave_nothing_for_the_decay_are_refused() -> None:
    assert message(first="decoder", first_share=0.5, warmup=0.5) == (
        "first_share 0.5 and warmup 0.5 are together the whole training; they must leave some of it for the learning "
        "rate to fall."
    )


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"warm_up": 0.1}, "There is no setting 'warm_up'. Did you mean 'warmup'?"),
        ({"first": "head"}, "first is 'head'. Did you mean 'heads'?"),
        ({"optimizer": "adam"}, "optimizer is 'adam'. Did you mean 'adamw'?"),
        ({"preset": "nnU-Net"}, "preset is 'nnU-Net'. Did you mean 'nnunet'?"),
        ({"warmup": 1}, "warmup is 1; it must be a number between 0 and 0.9."),
        ({"warmup": None}, "warmup is None; it must be a number between 0 and 0.9."),
        ({"first_share": 0}, "first_share is 0; it must be a number between 0.001 and 0.9."),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; it must be a number between 0.1 and 1."),
        ({"epochs": 0}, "epochs is 0; it must be a whole number, 1 or more."),
        ({"learning_rate": 0}, "learning_rate is 0; it must be a number between 1e-08 and 10."),
    ],
)
def test_what_is_wrong_is_refused_with_its_bounds_or_the_nearest_name(values: dict[str, Any], refusal: str) -> None:
    assert message(**values) == refusal
