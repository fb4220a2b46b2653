"""The learning rate at every step of a fine-tuning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_volf.finetune_settings import FIRST, FineTuneSettings
from nnunet_volf.learning_rates import ScheduledRates
from nnunet_volf.parameter_groups import Group
from nnunet_volf.schedules import rate_factors


def settings(**values: Any) -> FineTuneSettings:
    return FineTuneSettings.from_mapping(values)


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(1))


def literal(s: FineTuneSettings) -> list[tuple[float, float]]:
    """All factors of a training whose stages end at whole steps, written out stage by stage."""
    total = s.epochs * s.iterations
    alone = round(s.first_stage * total)
    rising = round(s.warmup * total)
    factors = [((step + 1) / alone, 0.0) for step in range(alone)]
    factors += [((step + 1) / rising,) * 2 for step in range(rising)]
    decay_begins = (alone + rising) / s.iterations
    for step in range(alone + rising, total):
        epoch = step // s.iterations
        passed = max(0.0, epoch - decay_begins) / (s.epochs - decay_begins)
        factors.append(((1 - passed) ** 0.9,) * 2)
    return factors


@st.composite
def trainings(draw: st.DrawFn) -> FineTuneSettings:
    """Settings whose stages end at whole steps."""
    epochs, iterations = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    total = epochs * iterations
    first = draw(st.sampled_from(FIRST if total > 2 else ("none",)))
    alone = draw(st.integers(1, max(1, (total * 8) // 10))) if first != "none" else 0
    rising = draw(st.integers(0, max(0, (total * 9) // 10 - alone)))
    share = {} if first == "none" else {"first_share": alone / total}
    return settings(epochs=epochs, iterations=iterations, first=first, warmup=rising / total, **share)


@given(trainings())
def test_the_factors_are_those_of_a_literal_reading(s: FineTuneSettings) -> None:
    steps = [(epoch, step) for epoch in range(s.epochs) for step in range(s.iterations)]
    found = [(f.first, f.others) for f in (rate_factors(s, *step) for step in steps)]
    expected = literal(s)
    assert [f for f, _ in found] == pytest.approx([f for f, _ in expected])
    assert [o for _, o in found] == pytest.approx([o for _, o in expected])


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.floats(0, 0.9),
    st.floats(0.001, 0.9),
    st.sampled_from(FIRST),
)
def test_a_rate_is_never_above_the_highest_nor_below_nothing_and_the_first_part_never_waits(
    epochs: int, iterations: int, warmup: float, share: float, first: str
) -> None:
    if warmup + share >= 1:
        warmup = 0.0
    s = settings(epochs=epochs, iterations=iterations, warmup=warmup, first_share=share, first=first)
    for epoch in range(epochs):
        for step in range(iterations):
            factors = rate_factors(s, epoch, step)
            assert 0 < factors.first <= 1
            assert factors.others in (0.0, factors.first)


def test_the_preset_nnunet_is_nnunets_own_scheduler_to_the_last_bit() -> None:
    s = settings(preset="nnunet")
    ours = ScheduledRates([Group((parameter(),), scale=1.0, first=True)], s)
    theirs_optimizer = torch.optim.SGD([parameter()], 1e-2)
    theirs = PolyLRScheduler(theirs_optimizer, 1e-2, 1000)
    for epoch in range(1000):
        theirs.step(epoch)
        for step in (0, 249):
            ours.set(epoch, step)
            assert ours.optimizer.param_groups[0]["lr"] == theirs_optimizer.param_groups[0]["lr"]


def test_a_training_of_one_epoch_has_a_warm_up_of_many_steps() -> None:
    s = settings(epochs=1, iterations=10, warmup=0.5)
    assert [rate_factors(s, 0, step).first for step in range(10)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1]
    )


def test_the_whole_network_rises_from_nothing_again_after_the_first_stage() -> None:
    s = settings(epochs=10, iterations=2, first="heads", first_share=0.2, warmup=0.2)
    found = [rate_factors(s, step // 2, step % 2) for step in range(9)]
    assert [f.first for f in found] == pytest.approx([0.25, 0.5, 0.75, 1, 0.25, 0.5, 0.75, 1, 1])
    assert [f.others for f in found] == pytest.approx([0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1])


def test_each_group_has_the_peak_times_its_factor_times_its_scale() -> None:
    groups = [Group((parameter(),), 1.0, first=True), Group((parameter(),), 0.5, first=False)]
    s = settings(epochs=10, iterations=1, first="heads", first_share=0.2, optimizer="adamw", learning_rate=0.2)
    rates = ScheduledRates(groups, s)
    seen = []
    for epoch in range(4):
        rates.step(epoch)
        seen.append([group["lr"] for group in rates.optimizer.param_groups])
    later = (1 - 1 / 8) ** 0.9
    assert seen == [pytest.approx(r) for r in ([0.1, 0], [0.2, 0], [0.2, 0.1], [0.2 * later, 0.1 * later])]


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_of_the_settings_with_their_weight_decay(optimizer: str, kind: type) -> None:
    made = ScheduledRates([Group((parameter(),), 1.0, True)], settings(optimizer=optimizer, weight_decay=0.125))
    assert type(made.optimizer) is kind
    assert made.optimizer.param_groups[0]["weight_decay"] == 0.125
