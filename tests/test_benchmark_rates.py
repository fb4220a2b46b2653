"""The learning rate of each arm is chosen on the validation cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmark_results import experiment, outcome, outcomes

from nnunet_volf.benchmark.analysis.findings import findings
from nnunet_volf.benchmark.analysis.rates import choose_rates
from nnunet_volf.benchmark.results import Outcome, Run

ASKED = experiment(arms=["volf"], labels=[3], rates=[0.3, 1.0, 3.0])


def ending(arm: str, rate: float, *by_seed: float, first_seed: int = 0) -> list[Outcome]:
    return [
        outcome(ASKED, Run(arm, 3, seed, 0, rate), (), (0.9, dice)) for seed, dice in enumerate(by_seed, first_seed)
    ]


def test_each_arm_takes_the_factor_that_ends_best_on_the_validation_cases() -> None:
    done = [
        *ending("scratch", 1.0, 0.5, 0.6),
        *ending("scratch", 3.0, 0.7, 0.5),
        *ending("volf", 1.0, 0.7, 0.7),
        *ending("volf", 3.0, 0.8, 0.5),
    ]
    assert choose_rates(done) == {("scratch", 3): 3.0, ("volf", 3): 1.0}


def test_a_factor_is_not_chosen_for_being_done_on_easier_seeds_only() -> None:
    done = [*ending("volf", 1.0, 0.5, 0.7), *ending("volf", 0.3, 0.65, first_seed=1)]
    assert choose_rates(done) == {("volf", 3): 1.0}


def test_factors_without_a_common_seed_are_compared_as_they_are() -> None:
    assert choose_rates([*ending("volf", 1.0, 0.5), *ending("volf", 0.3, 0.6, first_seed=1)]) == {("volf", 3): 0.3}


@pytest.mark.parametrize("rates", [(0.3, 1.0, 3.0), (3.0, 1.0, 0.3)])
def test_of_equally_good_factors_the_one_closest_to_1_is_taken(rates: tuple[float, ...]) -> None:
    assert choose_rates([o for rate in rates for o in ending("volf", rate, 0.5)]) == {("volf", 3): 1.0}


def test_the_scores_of_the_test_cases_have_no_say() -> None:
    done = outcomes(ASKED)
    turned = [
        replace(o, scores=tuple(replace(s, dice=1 - (s.dice or 0)) for s in o.scores)) if o.run.rate == 1 else o
        for o in done
    ]
    assert choose_rates(turned) == choose_rates(done)
    assert choose_rates([replace(o, scores=()) for o in done]) == choose_rates(done)


def test_the_findings_are_those_of_the_chosen_factors_alone() -> None:
    done = outcomes(ASKED)
    found = findings(ASKED, done, [])
    assert found.chosen_rates == {"scratch/3": 1.0, "volf/3": 1.0}
    best_only = findings(ASKED, [o for o in done if o.run.rate == 1], [])
    assert (found.levels, found.comparisons) == (best_only.levels, best_only.comparisons)
