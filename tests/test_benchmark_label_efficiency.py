"""How many labels scratch needs for the Dice of an arm."""

from __future__ import annotations

import math

import pytest
from benchmark_results import experiment, outcomes
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_volf.benchmark.analysis.findings import findings
from nnunet_volf.benchmark.analysis.label_efficiency import Worth, labels_needed

SCRATCH = {3: 0.6, 10: 0.7, 100: 0.8}


@pytest.mark.parametrize(
    ("dice", "labels", "bound"),
    [
        (0.6, 3, ""),
        (0.7, 10, ""),
        (0.75, math.sqrt(1000), ""),  # halfway between 10 and 100 on a logarithmic axis
        (0.8, 100, ""),
        (0.81, 100, "more than"),
        (0.59, 3, "fewer than"),
    ],
)
def test_between_measured_numbers_the_dice_is_linear_in_the_logarithm(dice: float, labels: float, bound: str) -> None:
    assert labels_needed(SCRATCH, dice) == (pytest.approx(labels), bound)


def test_where_scratch_gets_worse_with_more_labels_the_first_number_that_is_enough_counts() -> None:
    dented = {1: 0.5, 10: 0.7, 100: 0.6, 1000: 0.8}
    assert labels_needed(dented, 0.6) == (pytest.approx(math.sqrt(10)), "")
    assert labels_needed(dented, 0.75) == (pytest.approx(10 ** (2 + 0.75)), "")
    assert labels_needed({1: 0.7, 10: 0.6}, 0.71) == (10, "more than")


def test_one_measured_number_gives_a_bound() -> None:
    assert labels_needed({5: 0.6}, 0.7) == (5, "more than")
    assert labels_needed({}, 0.7) == (None, "")


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 500), st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 1))
def test_a_better_arm_is_never_worth_fewer_labels(scratch: dict[int, float], one: float, other: float) -> None:
    worse, better = (labels_needed(scratch, dice)[0] for dice in sorted((one, other)))
    assert worse is not None
    assert better is not None
    assert worse <= better + 1e-6
    assert min(scratch) <= worse
    assert better <= max(scratch) + 1e-6


def test_scratch_itself_is_worth_nothing_and_all_others_are_looked_up() -> None:
    asked = experiment(arms=["volf", "stock"], labels=[3, 10])
    worth = findings(asked, outcomes(asked, effect={"volf": 0.03, "stock": -0.2}, noise=0, seed_noise=0), []).worth
    assert [(found.arm, found.labels) for found in worth] == [("volf", 3), ("stock", 3), ("volf", 10), ("stock", 10)]
    assert worth[1] == Worth("stock", 3, 3, "fewer than")
    # Scratch has 0.1 more for ten times the labels: 0.03 more is worth a factor of 10^0.3.
    assert worth[0].scratch_labels == pytest.approx(3 * 10**0.3)
