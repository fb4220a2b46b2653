"""Curves of the validation Dice, and when they reach what scratch ends with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmark_results import experiment, outcome

from nnunet_volf.benchmark.analysis.convergence import Convergence, compute_convergence, final_value
from nnunet_volf.benchmark.results import Outcome, Run

ASKED = experiment(arms=["volf"], labels=[3], seeds=2, folds=2, epochs=4)  # 50 iterations an epoch


def curves(arm: str, *by_seed: tuple[float, ...], labels: int = 3) -> list[Outcome]:
    return [outcome(ASKED, Run(arm, labels, seed, 0), (), curve) for seed, curve in enumerate(by_seed)]


def of(arm: str, outcomes: list[Outcome]) -> Convergence:
    return next(found for found in compute_convergence(ASKED, outcomes) if found.arm == arm)


def test_the_curve_is_the_mean_over_seeds_and_its_spread_the_lowest_and_the_highest() -> None:
    found = of("volf", [*curves("scratch", (0.1,), (0.1,)), *curves("volf", (0.2, 0.5, 0.5), (0.4, 0.3, 0.7))])
    assert found.curve == pytest.approx((0.3, 0.4, 0.6))
    assert found.spread == ((0.2, 0.4), (0.3, 0.5), (0.5, 0.7))


def test_folds_are_averaged_within_a_seed_before_the_lowest_and_highest_are_taken() -> None:
    two_folds = [
        outcome(ASKED, Run(arm, 3, 0, fold), (), (0.2 + 0.4 * fold,)) for arm in ("scratch", "volf") for fold in (0, 1)
    ]
    assert of("volf", two_folds).spread[0] == pytest.approx((0.4, 0.4))


def test_the_iterations_are_those_at_the_end_of_the_first_epoch_that_reaches_the_target() -> None:
    found = of("volf", [*curves("scratch", (0.1, 0.2, 0.4, 0.6)), *curves("volf", (0.5, 0.65, 0.5, 0.7))])
    assert (found.target, found.reached, found.scratch_reached) == (0.6, 100, 200)


def test_an_arm_that_never_gets_there_says_so() -> None:
    assert of("volf", [*curves("scratch", (0.1, 0.6)), *curves("volf", (0.5, 0.59))]).reached is None


def test_scratch_reaches_its_own_end_despite_rounding() -> None:
    scratch = of("scratch", curves("scratch", (0.1,) * 30))  # whose last three have a mean above 0.1, by rounding
    assert scratch.reached == scratch.scratch_reached == 50


@pytest.mark.parametrize(("epochs", "last"), [(1, 1), (9, 1), (20, 2), (1000, 100)])
def test_the_final_value_is_the_mean_of_the_last_tenth(epochs: int, last: int) -> None:
    curve = [0.0] * (epochs - last) + [0.4 + 0.2 * (n % 2) for n in range(last)]
    assert final_value(curve) == pytest.approx(0.4 if last == 1 else 0.5)


def test_an_arm_is_held_against_scratch_with_the_same_seeds() -> None:
    scratch = curves("scratch", (0.2, 0.4), (0.6, 0.8))
    alone = of("volf", [*scratch, *curves("volf", (0.3, 0.5))])
    assert alone.target == 0.4
    assert of("volf", [*scratch, *curves("volf", (0.3, 0.5), (0.3, 0.5))]).target == pytest.approx(0.6)


def test_without_scratch_there_is_nothing_to_reach() -> None:
    assert compute_convergence(ASKED, curves("volf", (0.3, 0.5))) == ()


def test_every_number_of_labels_has_its_own_target() -> None:
    asked = replace(ASKED, labels=(3, 10))
    done = [*curves("scratch", (0.4,)), *curves("scratch", (0.8,), labels=10)]
    assert [found.target for found in compute_convergence(asked, done)] == [0.4, 0.8]
