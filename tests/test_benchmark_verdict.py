"""The sentence says what came out and how sure it is, and losses as plainly as wins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmark_results import experiment, outcomes

from nnunet_volf.benchmark.analysis.comparisons import Comparison, Level
from nnunet_volf.benchmark.analysis.convergence import Convergence
from nnunet_volf.benchmark.analysis.findings import Interval, Verdict, findings
from nnunet_volf.benchmark.analysis.label_efficiency import Worth
from nnunet_volf.benchmark.analysis.score_grid import MEAN
from nnunet_volf.benchmark.analysis.verdict import judge, most_important
from nnunet_volf.benchmark.analysis.wording import change, count, listed


def level(arm: str, labels: int, dice: float) -> Level:
    return Level(arm, labels, "dice", MEAN, Interval(dice, dice - 0.02, dice + 0.02), (dice,), {"a": dice}, 0)


def compared(
    labels: int,
    low: float,
    value: float,
    high: float,
    arm: str = "volf",
    metric: str = "dice",
    seeds: int = 3,
    cases: int = 40,
    p_holm: float | None = None,
    reference: str = "scratch",
) -> Comparison:
    gain = value if metric in ("dice", "nsd") else -value
    verdict = "unclear" if low <= 0 <= high else "better" if gain > 0 else "worse"
    per_case = {f"case_{n}": value for n in range(cases)}
    difference = Interval(value, low, high)
    return Comparison(
        arm, labels, metric, MEAN, difference, (value,) * seeds, per_case, 0, 0, 0, None, p_holm, verdict, reference
    )


LEVELS = [
    level("scratch", 3, 0.689),
    level("volf", 3, 0.712),
    level("scratch", 10, 0.75),
    level("volf", 10, 0.749),
]
WIN, TIE = compared(3, 0.008, 0.712 - 0.689, 0.037), compared(10, -0.009, 0.749 - 0.75, 0.007)


def verdict(
    *comparisons: Comparison, convergence: tuple[Convergence, ...] = (), worth: tuple[Worth, ...] = ()
) -> Verdict:
    return judge(LEVELS, comparisons, convergence, worth, 0)


def test_a_win_names_its_interval_its_cases_and_its_seeds() -> None:
    assert verdict(WIN, TIE).sentence == (
        "With 3 labelled cases, volf was better than training from scratch: a mean Dice of 0.712 against 0.689, +0.023 "
        "(95 % interval +0.008 to +0.037, 40 test cases, 3 seeds); with 10, no difference could be shown "
        "(-0.001, -0.009 to +0.007)."
    )


def test_a_loss_is_said_as_plainly() -> None:
    assert verdict(compared(3, -0.037, 0.689 - 0.712, -0.008), compared(10, -0.02, -0.01, -0.001)).sentence.startswith(
        "With 3 labelled cases, volf was worse than training from scratch: a mean Dice of 0.712 against 0.689, -0.023"
    )
    assert (
        "with 10, it was worse (-0.010, -0.020 to -0.001)" in verdict(WIN, compared(10, -0.02, -0.01, -0.001)).sentence
    )


def test_no_difference_that_can_be_shown_is_neither_a_win_nor_a_draw() -> None:
    assert verdict(TIE).sentence == (
        "With 10 labelled cases, no difference between volf and training from scratch could be shown: a mean Dice of "
        "0.749 against 0.750, -0.001 (95 % interval -0.009 to +0.007, 40 test cases, 3 seeds)."
    )


def test_one_seed_cannot_tell_chance_from_effect() -> None:
    ending = "one seed{} cannot tell the effect of the start from the chance of a single training."
    one = replace(WIN, per_seed=(0.023,))
    assert verdict(one).sentence.endswith("; " + ending.format(""))
    assert verdict(one, TIE).sentence.endswith("; " + ending.format(" for 3 labelled cases"))
    assert "cannot tell" not in verdict(WIN, TIE).sentence


def test_other_numbers_of_seeds_and_cases_are_named_where_they_differ() -> None:
    assert (
        "-0.009 to +0.007, 2 seeds, 39 test cases)"
        in verdict(WIN, compared(10, -0.009, -0.001, 0.007, seeds=2, cases=39)).sentence
    )


def test_a_difference_of_fewer_trainings_than_the_means_says_so() -> None:
    assert "+0.030 in the trainings that both have (95 %" in verdict(compared(3, 0.01, 0.03, 0.05)).sentence


def test_nothing_to_compare_is_said() -> None:
    assert verdict().sentence == (
        "There is nothing to compare yet: no arm shares two test cases with training from scratch."
    )


@pytest.mark.parametrize(
    ("arms", "about"),
    [
        (["stock", "encoder", "mine", "volf"], "volf"),
        (["stock", "encoder", "mine", "voco", "mae"], "mae"),
        (["stock", "mine", "slem"], "slem"),
        (["stock", "mine", "pretrained"], "pretrained"),
        (["stock", "encoder", "mine"], "mine"),
        (["stock"], "stock"),
    ],
)
def test_the_sentence_is_about_the_arm_that_matters_most(arms: list[str], about: str) -> None:
    assert most_important(arms) == about


def test_the_other_arms_and_the_decoder_stand_below() -> None:
    details = verdict(
        WIN,
        compared(3, -0.03, -0.02, -0.01, arm="stock"),
        compared(3, 0.01, 0.02, 0.03, reference="encoder"),
    ).details
    assert details == (
        "stock against scratch: with 3 labelled cases worse (-0.020, -0.030 to -0.010).",
        "volf against encoder, which is what the pretrained decoder adds: with 3 labelled cases better "
        "(+0.020, +0.010 to +0.030).",
    )


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (Worth("volf", 3, 7.2, ""), "with about 7.2 (read"),
        (Worth("volf", 3, 13.4, ""), "with about 13 (read"),
        (Worth("volf", 10, 100, "more than"), "with more than 100, the most that were tried (read"),
        (Worth("volf", 3, 3, "fewer than"), "with fewer than 3, the fewest that were tried (read"),
    ],
)
def test_the_worth_in_labels_says_where_it_is_only_a_bound(worth: Worth, said: str) -> None:
    (detail,) = verdict(WIN, worth=(worth,)).details
    assert said in detail
    assert detail.endswith("without an interval).")


def test_stock_has_no_pretraining_to_be_worth_anything() -> None:
    assert (
        judge(
            [level("scratch", 3, 0.7), level("stock", 3, 0.7)],
            [compared(3, -1, 0, 1, arm="stock")],
            [],
            [Worth("stock", 3, 3, "")],
            0,
        ).details
        == ()
    )


def test_convergence_is_told_in_iterations() -> None:
    curves = (
        Convergence("volf", 3, (0.7,), ((0.7, 0.7),), 400, 1000, 0.633),
        Convergence("volf", 10, (0.6,), ((0.6, 0.6),), None, 1000, 0.7),
    )
    assert verdict(WIN, convergence=curves).details == (
        "With 3 labelled cases, volf first reached scratch's final validation Dice of 0.633 after 400 iterations, "
        "scratch after 1000.",
        "With 10 labelled cases, volf never reached scratch's final validation Dice of 0.700.",
    )


def test_a_metric_that_disagrees_with_the_dice_is_named() -> None:
    details = verdict(WIN, compared(3, 0.2, 0.5, 0.9, metric="hd95"), compared(3, 0.1, 0.2, 0.3, metric="nsd")).details
    assert details == (
        "With 3 labelled cases, HD95 (mm) says otherwise than the Dice: volf was worse (+0.50, +0.20 to +0.90).",
    )


def test_where_the_interval_and_the_corrected_test_disagree_both_are_told() -> None:
    details = verdict(replace(WIN, p_holm=0.2), replace(TIE, p_holm=0.01)).details
    assert details == (
        "The interval excludes 0, but Wilcoxon's test, corrected for 2 comparisons, does not confirm it: volf against "
        "scratch with 3 labelled cases (p = 0.2).",
        "Wilcoxon's test, corrected for 2 comparisons, finds a difference between these very trainings, but the "
        "interval says that trainings with other seeds may not show it: volf against scratch with 10 labelled "
        "cases (p = 0.01).",
    )


def test_a_clear_effect_in_made_up_trainings_is_found_and_none_is_not() -> None:
    asked = experiment(arms=["volf"], labels=[3], test_cases=20, seeds=5)
    found = findings(asked, outcomes(asked, effect={"volf": 0.05}), [])
    assert "volf was better" in found.verdict.sentence
    assert "volf was worse" in findings(asked, outcomes(asked, effect={"volf": -0.05}), []).verdict.sentence
    assert "no difference" in findings(asked, outcomes(asked, effect={"volf": 0.0}), []).verdict.sentence


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [(0.0234, "dice", "+0.023"), (-0.0004, "nsd", "-0.0004"), (0.0, "dice", "+0.000"), (-1.234, "hd95", "-1.23")],
)
def test_a_change_has_a_sign_and_does_not_read_as_0_where_it_is_not(value: float, metric: str, text: str) -> None:
    assert change(value, metric) == text


def test_words() -> None:
    assert (count(1, "seed"), count(2, "seed")) == ("1 seed", "2 seeds")
    assert (listed([3]), listed([3, 5]), listed([3, 5, 10])) == ("3", "3 and 5", "3, 5 and 10")
