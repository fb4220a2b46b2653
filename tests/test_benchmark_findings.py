"""What the trainings say together: which comparisons are made, on what, and what is missing."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from benchmark_results import experiment, failure, outcome, outcomes, score
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nnunet_volf.benchmark.analysis.comparisons import compare
from nnunet_volf.benchmark.analysis.findings import Comparison, Findings, Level, findings
from nnunet_volf.benchmark.analysis.score_grid import MEAN, score_grid
from nnunet_volf.benchmark.analysis.statistics import holm
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import METRICS, Outcome


def level(found: Findings, arm: str, labels: int, metric: str = "dice", label: str = MEAN) -> Level:
    wanted = (arm, labels, metric, label)
    (only,) = (lev for lev in found.levels if (lev.arm, lev.labels, lev.metric, lev.label) == wanted)
    return only


def comparison(
    found: Findings, arm: str, labels: int, metric: str = "dice", label: str = MEAN, reference: str = "scratch"
) -> Comparison:
    wanted = (arm, labels, metric, label, reference)
    (only,) = (c for c in found.comparisons if (c.arm, c.labels, c.metric, c.label, c.reference) == wanted)
    return only


def literal_case_mean(done: list[Outcome], arm: str, labels: int, metric: str, case: str) -> float:
    """Average the classes of a case within each seed, then the seeds."""
    by_seed = []
    for result in done:
        if (result.run.arm, result.run.labels) == (arm, labels):
            values = [getattr(s, metric) for s in result.scores if s.case == case]
            if values:
                by_seed.append(sum(values) / len(values))
    return sum(by_seed) / len(by_seed)


ASKED = experiment(folds=2, test_cases=7)
DONE = outcomes(ASKED)
FOUND = findings(ASKED, DONE, [])


@pytest.mark.parametrize("metric", METRICS)
def test_a_level_is_the_mean_over_cases_of_the_means_over_seeds_of_the_means_over_classes(metric: str) -> None:
    cases = [case for part in ASKED.cases.values() for case in part.test]
    expected = {case: literal_case_mean(DONE, "volf", 10, metric, case) for case in cases}
    found = level(FOUND, "volf", 10, metric)
    assert found.per_case == pytest.approx(expected)
    assert found.mean.value == pytest.approx(sum(expected.values()) / len(expected))
    assert found.mean.low < found.mean.value < found.mean.high
    assert found.left_out == 0


def test_a_difference_is_that_of_the_levels_seed_by_seed_and_case_by_case() -> None:
    found = comparison(FOUND, "volf", 3, "assd", "posterior")
    own, scratch = (level(FOUND, arm, 3, "assd", "posterior") for arm in ("volf", "scratch"))
    assert found.difference.value == pytest.approx(own.mean.value - scratch.mean.value)
    assert found.per_seed == pytest.approx(np.subtract(own.per_seed, scratch.per_seed))
    assert found.per_case == pytest.approx({case: own.per_case[case] - scratch.per_case[case] for case in own.per_case})


def test_all_arms_are_compared_with_scratch_and_volf_with_encoder_in_all_metrics_and_classes() -> None:
    expected = {
        (arm, reference, labels, metric, label)
        for arm, reference in [
            ("encoder", "scratch"),
            ("volf", "scratch"),
            ("stock", "scratch"),
            ("volf", "encoder"),
        ]
        for labels in (3, 10)
        for metric in METRICS
        for label in (MEAN, "anterior", "posterior")
    }
    assert Counter((c.arm, c.reference, c.labels, c.metric, c.label) for c in FOUND.comparisons) == Counter(expected)


def pairs_of(found: Findings) -> list[tuple[str, str]]:
    """Which arms were compared, with 3 labelled cases."""
    return [(c.arm, c.reference) for c in found.comparisons if (c.labels, c.metric, c.label) == (3, "dice", MEAN)]


def test_the_decoder_of_any_method_is_compared_with_its_encoder_alone() -> None:
    asked = experiment(labels=[3], arms=["encoder", "mae"], pretrained="mae.pth")
    assert pairs_of(findings(asked, outcomes(asked), [])) == [
        ("encoder", "scratch"),
        ("mae", "scratch"),
        ("mae", "encoder"),
    ]


def test_the_encoder_of_other_weights_is_not_what_a_decoder_is_compared_with() -> None:
    asked = experiment(labels=[3], arms=["encoder", "mae=mae.pth", "mine=x.pth"])
    assert ("mae", "encoder") not in pairs_of(findings(asked, outcomes(asked), []))


def test_methods_are_compared_with_each_other_by_the_first_of_them() -> None:
    asked = experiment(labels=[3], arms=["voco=voco.pth", "mae=mae.pth", "volf", "mine=x.pth"])
    found = findings(asked, outcomes(asked, effect={"mae": -0.1, "voco": 0.02}), [])
    assert pairs_of(found) == [
        ("voco", "scratch"),
        ("mae", "scratch"),
        ("volf", "scratch"),
        ("mine", "scratch"),
        ("volf", "mae"),
        ("volf", "voco"),
    ]
    assert comparison(found, "mae", 3).reference == "scratch"
    (against,) = (d for d in found.verdict.details if d.startswith("volf against mae"))
    assert against.startswith("volf against mae: with 3 labelled cases better (+0.1")
    assert found.verdict.sentence.startswith("With 3 labelled cases, volf was")


def test_an_arm_of_the_users_own_is_compared_too() -> None:
    asked = experiment(arms=["volf", "mine=other.pth"])
    found = findings(asked, outcomes(asked, effect={"mine": -0.1}), [])
    assert comparison(found, "mine", 3).verdict == "worse"


def test_less_distance_is_better() -> None:
    found = comparison(FOUND, "volf", 3, "hd95")
    assert found.difference.high < 0
    assert found.verdict == "better"
    assert (found.better, found.worse, found.equal) == tuple(
        sum(bool(test(d)) for d in found.per_case.values())
        for test in (lambda d: d < 0, lambda d: d > 0, lambda d: d == 0)
    )
    assert found.better > found.worse


def test_each_metric_and_class_is_a_family_of_holms_correction() -> None:
    for metric in METRICS:
        for label in (MEAN, "anterior", "posterior"):
            family = [c for c in FOUND.comparisons if (c.metric, c.label) == (metric, label)]
            assert len(family) == 8  # four pairs of arms, two numbers of labels
            assert [c.p_holm for c in family] == holm([c.p for c in family])


def test_the_p_value_is_of_the_cases_averaged_over_seeds() -> None:
    found = comparison(FOUND, "encoder", 10, "nsd")
    assert found.p == pytest.approx(stats.wilcoxon(list(found.per_case.values())).pvalue, rel=1e-6)


def test_an_arm_that_equals_scratch_is_neither_better_nor_worse() -> None:
    asked = experiment(arms=["volf"])
    done = outcomes(asked, effect={"volf": 0.0}, seed_noise=0, noise=0)
    found = comparison(findings(asked, done, []), "volf", 3)
    assert (found.verdict, found.better, found.worse, found.equal) == ("unclear", 0, 0, 12)
    assert found.p is None
    assert found.p_holm is None


def test_only_seeds_that_both_arms_have_are_compared() -> None:
    done = [o for o in DONE if not (o.run.arm == "volf" and o.run.seed == 2)]
    found = findings(ASKED, done, [])
    without = findings(ASKED, [o for o in DONE if o.run.seed != 2], [])
    assert len(comparison(found, "volf", 3).per_seed) == 2
    assert len(comparison(found, "encoder", 3).per_seed) == 3
    assert comparison(found, "volf", 3).difference == comparison(without, "volf", 3).difference
    assert len(level(found, "scratch", 3).per_seed) == 3


def test_a_training_that_failed_in_one_fold_takes_its_seed_out_for_the_cases_of_this_fold() -> None:
    lost = next(o.run for o in DONE if (o.run.arm, o.run.labels, o.run.seed, o.run.fold) == ("volf", 3, 1, 1))
    found = comparison(findings(ASKED, [o for o in DONE if o.run != lost], [failure(lost)]), "volf", 3)
    assert len(found.per_case) == 14
    assert len(found.per_seed) == 3
    whole = comparison(FOUND, "volf", 3)
    for case in ASKED.cases[0].test:
        assert found.per_case[case] == pytest.approx(whole.per_case[case])
    assert any(found.per_case[case] != pytest.approx(whole.per_case[case]) for case in ASKED.cases[1].test)


def test_a_single_test_case_is_shown_but_not_compared() -> None:
    asked = experiment(arms=["volf"], test_cases=1)
    found = findings(asked, outcomes(asked), [])
    assert found.comparisons == ()
    assert len(found.levels) == 2 * 2 * 4 * 3
    assert "nothing to compare" in found.verdict.sentence


def test_nothing_done_is_no_error_and_says_what_is_to_come() -> None:
    found = findings(ASKED, [], [])
    assert (found.levels, found.comparisons, found.convergence, found.worth) == ((), (), (), ())
    assert found.missing == (
        "Not done yet: 48 of 48 trainings (12 of scratch, 12 of encoder, 12 of volf, 12 of stock).",
    )


def test_a_failed_training_is_named_with_its_reason_and_its_log() -> None:
    failed = DONE[5].run
    found = findings(ASKED, [o for o in DONE if o.run != failed], [failure(failed, "CUDA out of memory.")])
    assert found.missing == (
        f"The training {failed.name} failed: CUDA out of memory. Its log is runs/{failed.name}/log.txt.",
    )
    assert found.missing[0] in found.verdict.details


def test_a_training_that_failed_first_and_was_done_later_is_not_missing() -> None:
    assert findings(ASKED, DONE, [failure(DONE[5].run)]).missing == ()


@given(seed=st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_the_order_of_the_outcomes_changes_nothing(seed: int) -> None:
    shuffled = list(DONE)
    random.Random(seed).shuffle(shuffled)
    assert findings(ASKED, shuffled, []) == FOUND


def test_swapping_two_arms_turns_their_comparison_around() -> None:
    grid = score_grid(DONE, tuple(ASKED.classes.values()))
    there, back = (compare(grid, *pair, 3, "nsd", MEAN) for pair in [("volf", "encoder"), ("encoder", "volf")])
    assert there is not None
    assert back is not None
    assert (back.difference.low, back.difference.high) == pytest.approx((-there.difference.high, -there.difference.low))
    assert (back.better, back.worse) == (there.worse, there.better)
    assert back.p == there.p
    assert {there.verdict, back.verdict} in ({"better", "worse"}, {"unclear"})


def test_a_class_that_only_scratch_invents_makes_scratch_worse() -> None:
    """Test cases without the class: scratch finds it in most of them, volf in none."""
    asked: Experiment = experiment(arms=["volf"], labels=[3], classes=["lesion"], test_cases=8)
    done = []
    for run in asked.runs():
        scores = [score(case, "lesion", 0.0) for case in asked.cases[0].test]
        if run.arm == "volf":
            scores = [replace(s, dice=None, nsd=None, hd95=None, assd=None) for s in scores]
        else:
            scores[0] = replace(scores[0], dice=None, nsd=None, hd95=None, assd=None)
        done.append(outcome(asked, run, tuple(scores), (0.5,)))
    found = findings(asked, done, [])
    assert comparison(found, "volf", 3).verdict == "better"
    assert comparison(found, "volf", 3, "hd95").verdict == "better"
    assert level(found, "volf", 3).left_out == 1
    assert any("7 pairs of a test case and a class that it does not have" in line for line in found.verdict.details)
