"""What an arm is called, and what it starts from."""

from __future__ import annotations

import pytest
from benchmark_results import look

from nnunet_volf.benchmark.arms import Arm, Weights, parse_arms
from nnunet_volf.errors import BenchmarkError
from nnunet_volf.pretext.catalogue import METHODS

TUNER = "nnUNetTrainerVolFFineTune"


def parse(asked: list[str], pretrained: str | None = None) -> tuple[Arm, ...]:
    return parse_arms(asked, pretrained, look)


def test_with_pretrained_weights_all_four_arms_are_compared() -> None:
    arms = parse([], "volf.pth")
    assert [(arm.name, arm.trainer, arm.weights, arm.scope) for arm in arms] == [
        ("scratch", TUNER, None, "all"),
        ("encoder", TUNER, "volf.pth", "encoder"),
        ("volf", TUNER, "volf.pth", "all"),
        ("stock", "nnUNetTrainer", None, "all"),
    ]


def test_the_arm_of_the_weights_is_named_after_their_method() -> None:
    assert [arm.name for arm in parse([], "mae.pth")] == ["scratch", "encoder", "mae", "stock"]
    assert [arm.name for arm in parse([], "of_others.pth")] == ["scratch", "encoder", "pretrained", "stock"]


@pytest.mark.parametrize("method", ["voco", "slem"])
def test_weights_without_a_trained_decoder_have_one_arm_which_starts_from_the_encoder(method: str) -> None:
    arms = parse([], f"{method}.pth")
    assert [(arm.name, arm.scope) for arm in arms] == [("scratch", "all"), (method, "encoder"), ("stock", "all")]


def test_each_method_can_have_weights_of_its_own() -> None:
    arms = parse(["scratch", "volf=volf.pth", "mae=mae.pth", "voco=voco.pth"])
    assert [(arm.name, arm.weights, arm.scope) for arm in arms[1:]] == [
        ("volf", "volf.pth", "all"),
        ("mae", "mae.pth", "all"),
        ("voco", "voco.pth", "encoder"),
    ]


def test_methods_with_weights_of_their_own_stand_beside_those_that_were_named_first() -> None:
    arms = parse(["volf", "encoder", "slem=slem.pth"], "volf.pth")
    assert [(arm.name, arm.weights) for arm in arms] == [
        ("scratch", None),
        ("volf", "volf.pth"),
        ("encoder", "volf.pth"),
        ("slem", "slem.pth"),
    ]


def test_of_weights_that_do_not_say_their_method_the_user_may() -> None:
    assert parse(["mae"], "of_others.pth")[1] == Arm("mae", weights="of_others.pth")
    assert parse(["mae=of_others.pth"])[1] == Arm("mae", weights="of_others.pth")


def test_without_weights_our_schedule_is_compared_with_that_of_nnunet() -> None:
    assert [arm.name for arm in parse([])] == ["scratch", "stock"]


def test_scratch_is_always_among_the_arms_because_all_are_compared_with_it() -> None:
    assert [arm.name for arm in parse(["volf", "other=x.pth"], "volf.pth")] == ["scratch", "volf", "other"]


def test_further_weights_are_an_arm_of_their_own() -> None:
    assert parse(["mine=runs/m=1.pth"])[1] == Arm("mine", weights="runs/m=1.pth")
    assert parse(["longer=voco.pth"])[1].scope == "encoder"


@pytest.mark.parametrize(
    ("asked", "pretrained", "message"),
    [
        (
            ["vofl"],
            "volf.pth",
            "There is no arm 'vofl'. Known: scratch, encoder, volf, mae, voco, slem, pretrained, stock; others are",
        ),
        (
            ["volf"],
            None,
            "The arm volf starts from pretrained weights: name them with --pretrained FILE, or --arms volf=FILE.",
        ),
        (["encoder"], None, "The arm encoder starts from pretrained weights: name them with --pretrained FILE."),
        (["scratch", "scratch"], None, "The arm scratch is named twice in --arms scratch scratch."),
        (["volf", "volf=x.pth"], "volf.pth", "The arm volf is named twice in --arms volf volf=x.pth."),
        (["stock=x.pth"], None, "'stock' cannot be the name of an arm with weights of its own. Take a method (volf, "),
        (["encoder=x.pth"], None, "'encoder' cannot be the name of an arm with weights of its own."),
        (["a/b=x.pth"], None, "'a/b' cannot be the name of an arm with weights of its own."),
        (
            ["mae"],
            "voco.pth",
            "The arm mae starts from weights of masked reconstruction (MAE), and voco.pth is of Volume Contrast (VoCo)"
            ": call that arm voco, or give this one other weights, --arms mae=FILE.",
        ),
        (["volf=mae.pth"], None, "and mae.pth is of masked reconstruction (MAE): call that arm mae, or give this one"),
        (
            ["encoder", "voco"],
            "voco.pth",
            "The arms encoder and voco are the same trainings: both are nnUNetTrainerVolFFineTune from the encoder of "
            "voco.pth, pretrained by Volume Contrast (VoCo). Leave one of them out.",
        ),
    ],
)
def test_what_is_no_arm_is_refused(asked: list[str], pretrained: str | None, message: str) -> None:
    with pytest.raises(BenchmarkError) as refused:
        parse(asked, pretrained)
    assert message in str(refused.value)


def test_an_arm_says_what_it_is_with_the_method_in_words() -> None:
    assert [str(arm) for arm in parse([], "mae.pth")] == [
        "nnUNetTrainerVolFFineTune without weights",
        "nnUNetTrainerVolFFineTune from the encoder of mae.pth, pretrained by masked reconstruction (MAE)",
        "nnUNetTrainerVolFFineTune from mae.pth, pretrained by masked reconstruction (MAE)",
        "nnUNetTrainer without weights",
    ]
    assert str(parse(["mine=x.pth"])[1]) == "nnUNetTrainerVolFFineTune from x.pth"


def test_who_looks_at_a_file_is_told_whose_it_is() -> None:
    asked: list[tuple[str, str]] = []

    def noting(file: str, whose: str) -> Weights:
        asked.append((file, whose))
        return look(file, whose)

    parse_arms(["volf", "mae=mae.pth"], "volf.pth", noting)
    assert asked == [("volf.pth", "--pretrained"), ("mae.pth", "the arm mae")]


def test_every_method_can_be_an_arm() -> None:
    for name in METHODS:
        assert parse([name], f"{name}.pth")[1].name == name
