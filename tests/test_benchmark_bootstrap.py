"""The crossed bootstrap and its interval: against a literal loop, scipy, known cases, and simulated benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from nnunet_volf.benchmark.analysis import crossed_bootstrap
from nnunet_volf.benchmark.analysis.crossed_bootstrap import mean_over_cases, resampled_means
from nnunet_volf.benchmark.analysis.statistics import Interval, half_width, mean_interval

NAN = float("nan")
TABLES = st.tuples(st.integers(1, 4), st.integers(2, 7)).flatmap(
    lambda shape: arrays(float, shape, elements=st.integers(-100, 100).map(lambda n: n / 100))
)


def literal_resample(values: np.ndarray, seeds: list[int], cases: list[int]) -> float | None:
    """Loop over the drawn cases and seeds, and average as the words say: seeds within a case, then cases."""
    means = []
    for case in cases:
        there = [values[seed, case] for seed in seeds if not np.isnan(values[seed, case])]
        if there:
            means.append(sum(there) / len(there))
    return sum(means) / len(means) if means else None


def drawn(size: int, resamples: int, stream: int) -> list[list[int]]:
    counts = crossed_bootstrap._draws(size, resamples, stream)
    return [np.repeat(np.arange(size), row).tolist() for row in counts]


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(1, 5)),
        np.random.default_rng(1).normal(size=(3, 4)),
        np.array([[1.0, 2, NAN, NAN], [3, 5, 7, 11]]),  # a failed training of one fold
        np.array([[1.0, NAN, 2, NAN], [NAN, 3, NAN, 5], [7, 11, NAN, NAN]]),
    ],
    ids=["one seed", "three seeds", "a fold is missing", "many holes"],
)
def test_resampled_means_are_those_of_a_literal_loop(values: np.ndarray) -> None:
    resamples = 300
    seeds, cases = drawn(values.shape[0], resamples, 0), drawn(values.shape[1], resamples, 1)
    expected = [literal_resample(values, *pair) for pair in zip(seeds, cases, strict=True)]
    np.testing.assert_allclose(resampled_means(values, resamples), [mean for mean in expected if mean is not None])


def test_a_resample_that_draws_no_value_at_all_is_left_out() -> None:
    values = np.array([[1.0, NAN], [NAN, 3.0]])
    means = resampled_means(values, 400)
    assert 150 < len(means) < 400
    assert set(np.round(means, 12)) == {1.0, 2.0, 3.0}


def test_resamples_in_parts_are_the_same_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(3, 6))
    whole = resampled_means(values, 100)
    monkeypatch.setattr(crossed_bootstrap, "CHUNK", 7)
    np.testing.assert_allclose(resampled_means(values, 100), whole)


def test_seeds_and_cases_are_drawn_independently_and_each_as_often_as_there_are_some() -> None:
    seeds, cases = (crossed_bootstrap._draws(5, 20_000, stream).astype(float) for stream in (0, 1))
    for counts in (seeds, cases):
        assert (counts.sum(axis=1) == 5).all()
        np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
        np.testing.assert_allclose(counts.var(axis=0), 0.8, atol=0.04)  # binomial: 5 * 1/5 * 4/5
    assert np.abs(np.corrcoef(seeds.T, cases.T)[:5, 5:]).max() < 0.03


def test_with_one_seed_the_percentiles_are_those_of_scipys_bootstrap_over_cases() -> None:
    values = np.random.default_rng(3).exponential(size=40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", random_state=np.random.default_rng(4)
    ).confidence_interval
    assert np.quantile(resampled_means(values[None]), [0.025, 0.975]) == pytest.approx(
        [expected.low, expected.high], abs=0.02
    )


def test_with_one_seed_and_many_cases_the_interval_is_that_of_a_t_test() -> None:
    values = np.random.default_rng(5).normal(0.1, 1, size=400)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    interval = mean_interval(values[None])
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_repeating_the_same_training_makes_nothing_surer() -> None:
    once = np.random.default_rng(6).normal(size=(1, 30))
    alone, repeated = mean_interval(once), mean_interval(np.repeat(once, 5, axis=0))
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high), abs=1e-12)


def test_two_trainings_that_disagree_leave_almost_everything_open() -> None:
    interval = mean_interval(np.array([[0.1] * 40, [0.0] * 40]))
    t_interval = 12.7062047 * 0.05  # of two values with a standard error of 0.05 and one degree of freedom
    assert (interval.low, interval.high) == pytest.approx((0.05 - t_interval, 0.05 + t_interval), rel=1e-6)


def test_an_interval_stays_within_what_the_metric_can_be() -> None:
    interval = mean_interval(np.array([[0.99, 0.5], [0.9, 0.99]]), bounds=(0.0, 1.0))
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_a_single_case_has_no_interval() -> None:
    assert mean_interval(np.array([[0.25], [0.75]])) == Interval(0.5, 0.5, 0.5)


def test_equal_values_have_an_interval_without_width() -> None:
    interval = mean_interval(np.full((3, 8), 0.1))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)


def test_each_case_counts_once_however_many_seeds_it_has() -> None:
    assert mean_over_cases(np.array([[1.0, 0.0], [NAN, 0.0], [NAN, 0.0]])) == 0.5


@given(values=TABLES)
@settings(max_examples=30, deadline=None)
def test_swapping_the_arms_turns_the_interval_around(values: np.ndarray) -> None:
    there, back = mean_interval(values), mean_interval(-values)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low), abs=1e-9)


@given(values=TABLES, constant=st.sampled_from([-2.0, 0.5, 3.0]))
@settings(max_examples=30, deadline=None)
def test_adding_a_constant_shifts_the_interval(values: np.ndarray, constant: float) -> None:
    before, after = mean_interval(values), mean_interval(values + constant)
    assert (after.value, after.low, after.high) == pytest.approx(
        (before.value + constant, before.low + constant, before.high + constant), abs=1e-6
    )


@given(values=TABLES)
@settings(max_examples=30, deadline=None)
def test_the_interval_is_never_narrower_than_the_plain_percentiles(values: np.ndarray) -> None:
    interval = mean_interval(values)
    low, high = np.quantile(resampled_means(values), [0.025, 0.975])
    assert interval.low <= low + 1e-9
    assert interval.high >= high - 1e-9


def test_where_seeds_and_cases_are_many_the_interval_is_the_plain_percentiles() -> None:
    values = np.random.default_rng(10).normal(size=(20, 60))
    interval = mean_interval(values)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(resampled_means(values), [0.025, 0.975]))


def test_the_same_table_always_has_the_same_interval() -> None:
    values = np.random.default_rng(7).normal(size=(3, 20))
    first = mean_interval(values)
    crossed_bootstrap._draws.cache_clear()
    assert mean_interval(values) == first


def test_few_seeds_widen_the_interval_by_students_t() -> None:
    seed_effects = np.array([0.0, 0.1, 0.05])
    values = seed_effects[:, None] + np.zeros(50)
    expected = stats.ttest_1samp(seed_effects, 0).confidence_interval()
    assert half_width(values) == pytest.approx((expected.high - expected.low) / 2)
    interval = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_few_cases_widen_the_interval_by_students_t() -> None:
    cases = np.random.default_rng(8).normal(size=(1, 5))
    expected = stats.ttest_1samp(cases[0], 0).confidence_interval()
    assert half_width(cases) == pytest.approx((expected.high - expected.low) / 2)
    interval = mean_interval(cases)
    assert interval.high - interval.low == pytest.approx(expected.high - expected.low)


def test_a_missing_training_does_not_hide_how_much_seeds_differ() -> None:
    values = np.array([[0.0] * 20, [0.3] * 20, [0.6] * 20])
    values[0, :5] = NAN
    assert half_width(values) == pytest.approx(half_width(np.array([[0.0] * 20, [0.3] * 20, [0.6] * 20])), rel=0.3)


def test_where_seeds_differ_the_interval_holds_the_truth_and_seeds_taken_as_cases_do_not() -> None:
    """Three seeds whose effects are half as large as the differences between cases; docs/statistics.md has more."""
    rng = np.random.default_rng(9)
    repeats, seeds, cases = 300, 3, 20
    crossed = plain = naive = 0
    for _ in range(repeats):
        values = 0.5 * rng.normal(size=(seeds, 1)) + rng.normal(size=cases) + rng.normal(size=(seeds, cases))
        interval = mean_interval(values)
        crossed += interval.low <= 0 <= interval.high
        low, high = np.quantile(resampled_means(values), [0.025, 0.975])
        plain += low <= 0 <= high
        low, high = np.quantile(resampled_means(values.reshape(1, -1), 1000), [0.025, 0.975])
        naive += low <= 0 <= high
    assert 0.92 <= crossed / repeats <= 0.98
    assert plain < crossed
    assert naive / repeats < 0.75


@pytest.mark.slow
def test_the_script_behind_the_table_of_coverages_runs() -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "coverage.py"
    command = [sys.executable, str(script), "--repeats", "2", "--cases", "5", "--seeds", "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 2 + 1 + 3
