"""Wilcoxon's test and Holm's correction, against what the words say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nnunet_volf.benchmark.analysis.statistics import holm, signed_rank_p


def literal_signed_rank_p(differences: list[float]) -> float:
    """Try all signs: how often is the rank sum as far from its middle as the one that was seen?"""
    ranks = stats.rankdata(np.abs(differences))
    middle = ranks.sum() / 2
    seen = abs(sum(rank for rank, d in zip(ranks, differences, strict=True) if d > 0) - middle)
    sums = [np.dot(ranks, signs) for signs in product((0, 1), repeat=len(ranks))]
    return sum(abs(total - middle) >= seen - 1e-9 for total in sums) / len(sums)


def literal_holm(p_values: list[float | None]) -> list[float | None]:
    """Step down: multiply the smallest p by how many are left; none may be smaller than one before it."""
    left = [(p, n) for n, p in enumerate(p_values) if p is not None]
    corrected: list[float | None] = [None] * len(p_values)
    before = 0.0
    while left:
        smallest = min(left)
        before = max(before, min(1.0, smallest[0] * len(left)))
        corrected[smallest[1]] = before
        left.remove(smallest)
    return corrected


@pytest.mark.parametrize(
    "differences",
    [
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        [0.1, -0.2, 0.3, 0.45, -0.5, 0.6, 0.75],
        [-0.1, -0.25, -0.3, 0.04, -0.5, -0.6, -0.7, -0.8],
        [0.1, 0.1, -0.1, 0.2, 0.2, -0.3, 0.3, 0.4],
        [0.1] * 12,
    ],
)
def test_the_signed_rank_test_counts_signs(differences: list[float]) -> None:
    assert signed_rank_p(np.array(differences)) == pytest.approx(literal_signed_rank_p(differences))


@pytest.mark.parametrize("cases", [20, 50, 51, 200])
def test_the_signed_rank_test_is_scipys(cases: int) -> None:
    differences = np.random.default_rng(cases).normal(0.2, 1, size=cases)
    assert signed_rank_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_differences_that_are_equal_but_for_rounding_are_ties() -> None:
    exact = np.array([1.0, 1, 1, -1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1])
    assert signed_rank_p((0.8 + exact * 0.1) - 0.8) == signed_rank_p(exact * 0.1)


def test_cases_without_difference_do_not_count_in_the_test() -> None:
    differing = [0.1, -0.2, 0.3, 0.45, -0.5, 0.6, 0.75]
    assert signed_rank_p(np.array([*differing, 0, 0, 1e-15])) == signed_rank_p(np.array(differing))


@pytest.mark.parametrize("differences", [[0.1, 0.2, 0.3, 0.4, 0.5], [0.0] * 40, []])
def test_too_few_cases_or_no_difference_at_all_have_no_p(differences: list[float]) -> None:
    assert signed_rank_p(np.array(differences)) is None


def test_one_case_that_differs_among_many_is_no_evidence() -> None:
    assert signed_rank_p(np.array([0.0] * 39 + [0.1])) == pytest.approx(1.0)


def test_holms_correction_of_a_known_family() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holms_correction_is_the_literal_one(p_values: list[float | None]) -> None:
    assert holm(p_values) == literal_holm(p_values)
