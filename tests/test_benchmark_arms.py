"""What an arm is called, and what it starts from."""

from __future__ import annotations

import pytest

from nnunet_volf.benchmark.arms import Arm, parse_arms
from nnunet_volf.errors import BenchmarkError


def test_with_pretrained_weights_all_four_arms_are_compared() -> None:
    arms = parse_arms([], "w.pth")
    assert [(arm.name, arm.trainer, arm.weights, arm.scope) for arm in arms] == [
        ("scratch", "nnUNetTrainerVolFFineTune", None, "all"),
        ("encoder", "nnUNetTrainerVolFFineTune", "w.pth", "encoder"),
        ("volf", "nnUNetTrainerVolFFineTune", "w.pth", "all"),
        ("stock", "nnUNetTrainer", None, "all"),
    ]


def test_without_weights_our_schedule_is_compared_with_that_of_nnunet() -> None:
    assert [arm.name for arm in parse_arms([], None)] == ["scratch", "stock"]


def test_scratch_is_always_among_the_arms_because_all_are_compared_with_it() -> None:
    assert [arm.name for arm in parse_arms(["volf", "other=x.pth"], "w.pth")] == ["scratch", "volf", "other"]


def test_further_weights_are_an_arm_of_their_own() -> None:
    assert parse_arms(["mae=runs/m=1.pth"], None)[1] == Arm("mae", weights="runs/m=1.pth")


@pytest.mark.parametrize(
    ("asked", "pretrained", "message"),
    [
        (["vofl"], "w.pth", "There is no arm 'vofl'. Known: scratch, encoder, volf, stock; others are given as NAME="),
        (["volf"], None, "The arm volf starts from pretrained weights: name them with --pretrained FILE."),
        (["scratch", "scratch"], None, "The arm scratch is named twice in --arms scratch scratch."),
        (["stock=x.pth"], None, "'stock' cannot be the name of an arm with weights of its own."),
        (["a/b=x.pth"], None, "'a/b' cannot be the name of an arm with weights of its own. Take letters, digits and _"),
    ],
)
def test_what_is_no_arm_is_refused(asked: list[str], pretrained: str | None, message: str) -> None:
    with pytest.raises(BenchmarkError) as refused:
        parse_arms(asked, pretrained)
    assert message in str(refused.value)


def test_an_arm_says_what_it_is() -> None:
    assert [str(arm) for arm in parse_arms([], "w.pth")] == [
        "nnUNetTrainerVolFFineTune without weights",
        "nnUNetTrainerVolFFineTune from the encoder of w.pth",
        "nnUNetTrainerVolFFineTune from w.pth",
        "nnUNetTrainer without weights",
    ]
