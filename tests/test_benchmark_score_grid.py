"""What every arm is judged on, above all where a class is missing."""

from __future__ import annotations

import numpy as np
import pytest
from benchmark_results import experiment, outcome, outcomes

from nnunet_volf.benchmark.analysis.score_grid import MEAN, score_grid
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import Outcome, Run, Score

ABSENT = (None, None, None, None)
INVENTED = (0.0, 0.0, 50.0, 50.0)
GOOD = (0.8, 0.9, 2.0, 1.0)

ASKED: Experiment = experiment(arms=["volf"], labels=[3], seeds=2)


def trained(arm: str, seed: int, values: dict[tuple[str, str], tuple[float | None, ...]]) -> Outcome:
    scores = tuple(Score(case, label, *numbers) for (case, label), numbers in values.items())
    return outcome(ASKED, Run(arm, 3, seed, 0), scores, (0.5,))


def test_the_table_holds_each_score_at_its_seed_and_case() -> None:
    done = outcomes(ASKED)
    grid = score_grid(done, ("anterior", "posterior"))
    table = grid.table("volf", 3, "nsd", "posterior")
    for result in done:
        for score in result.scores:
            if result.run.arm == "volf" and score.label == "posterior":
                assert table[grid.seeds.index(result.run.seed), grid.cases.index(score.case)] == score.nsd


def test_the_mean_is_that_of_the_classes_of_a_case() -> None:
    grid = score_grid([trained("volf", 0, {("a", "x"): GOOD, ("a", "y"): (0.4, 0.5, 4.0, 3.0)})], ("x", "y"))
    assert [grid.table("volf", 3, metric, MEAN).item() for metric in ("dice", "nsd", "hd95", "assd")] == pytest.approx(
        [0.6, 0.7, 3.0, 2.0]
    )


def test_a_class_that_nobody_has_a_score_for_is_left_out_for_all() -> None:
    both = {("a", "x"): GOOD, ("a", "y"): ABSENT, ("b", "x"): ABSENT, ("b", "y"): ABSENT}
    grid = score_grid([trained("volf", 0, both), trained("scratch", 0, both)], ("x", "y"))
    np.testing.assert_array_equal(grid.table("volf", 3, "dice", MEAN), [[0.8, np.nan]])
    assert grid.left_out("volf", 3, "dice", MEAN) == 3
    assert [grid.left_out("volf", 3, "dice", label) for label in ("x", "y")] == [1, 2]
    assert grid.invented == 0


def test_an_invented_class_counts_against_who_invents_it_and_for_who_leaves_it_out() -> None:
    grid = score_grid(
        [
            trained("scratch", 0, {("a", "x"): GOOD, ("a", "y"): INVENTED}),
            trained("scratch", 1, {("a", "x"): GOOD, ("a", "y"): ABSENT}),
            trained("volf", 0, {("a", "x"): GOOD, ("a", "y"): ABSENT}),
            trained("volf", 1, {("a", "x"): GOOD, ("a", "y"): ABSENT}),
        ],
        ("x", "y"),
    )
    assert grid.table("scratch", 3, "dice", "y").ravel().tolist() == [0, 1]
    assert grid.table("volf", 3, "dice", "y").ravel().tolist() == [1, 1]
    assert grid.table("scratch", 3, "hd95", "y").ravel().tolist() == [50, 0]
    assert grid.table("volf", 3, "assd", "y").ravel().tolist() == [0, 0]
    assert grid.table("volf", 3, "dice", MEAN).ravel() == pytest.approx([0.9, 0.9])
    assert grid.table("scratch", 3, "dice", MEAN).ravel() == pytest.approx([0.4, 0.9])
    assert grid.left_out("volf", 3, "dice", MEAN) == 0
    assert grid.invented == 1


def test_a_training_that_is_missing_leaves_a_hole_and_not_a_zero() -> None:
    grid = score_grid([trained("volf", 0, {("a", "x"): GOOD}), trained("scratch", 1, {("a", "x"): GOOD})], ("x",))
    np.testing.assert_array_equal(grid.table("volf", 3, "dice", "x"), [[0.8], [np.nan]])
    np.testing.assert_array_equal(grid.table("stock", 3, "dice", "x"), [[np.nan], [np.nan]])
