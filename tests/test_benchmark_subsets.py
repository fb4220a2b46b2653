"""Which cases are trained on, watched and tested on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.benchmark.subsets import divide, label_counts, subset
from nnunet_volf.errors import BenchmarkError

pools = st.lists(st.text("abcdef012", min_size=1), min_size=1, max_size=30, unique=True)


@given(pools, st.integers(0, 1000), st.data())
def test_fewer_labels_of_a_seed_are_among_its_more_labels(pool: list[str], seed: int, data: st.DataObject) -> None:
    more = data.draw(st.integers(1, len(pool)))
    fewer = data.draw(st.integers(1, more))
    chosen = subset(pool, more, seed)
    assert set(subset(pool, fewer, seed)) <= set(chosen) <= set(pool)
    assert len(chosen) == len(set(chosen)) == more


@given(pools, st.integers(0, 1000))
def test_the_order_in_which_cases_are_listed_changes_nothing(pool: list[str], seed: int) -> None:
    assert subset(pool, 1, seed) == subset(pool[::-1], 1, seed)
    assert list(subset(pool, len(pool), seed)) == sorted(pool)


def test_seeds_choose_different_cases() -> None:
    pool = [f"case_{n:02d}" for n in range(20)]
    assert len({subset(pool, 3, seed) for seed in range(10)}) >= 9


@given(st.lists(st.text("abc", min_size=1), min_size=3, max_size=40, unique=True), st.integers(1, 2))
def test_a_fold_is_divided_without_overlap_and_without_loss(cases: list[str], tested: int) -> None:
    split = {"val": cases[:tested], "train": cases[tested:]}
    if len(split["train"]) < 2:
        return
    parts = divide(split)
    assert set(parts.test) == set(split["val"])
    assert sorted(parts.validation + parts.pool) == sorted(split["train"])
    assert not set(parts.validation) & set(parts.pool)
    assert len(parts.validation) == max(1, round(0.2 * len(split["train"])))


def test_the_watched_cases_stay_the_same_when_the_number_is_given() -> None:
    split = {"val": ["t"], "train": [f"c{n}" for n in range(10)]}
    assert set(divide(split, 2).validation) < set(divide(split, 4).validation)


@pytest.mark.parametrize(
    ("split", "validation", "message"),
    [
        ({"val": ["a"], "train": ["b"]}, None, "1 validation cases of 1 training cases cannot be held out"),
        ({"val": ["a"], "train": ["b", "c"]}, 0, "0 validation cases of 2 training cases cannot be held out"),
        ({"val": [], "train": ["b", "c", "d"]}, None, "The fold has no validation cases to test on."),
    ],
)
def test_a_fold_that_cannot_be_divided_is_refused(
    split: dict[str, list[str]], validation: int | None, message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        divide(split, validation)


def test_label_counts_are_numbers_or_shares_of_the_smallest_pool() -> None:
    assert label_counts(["100%", "3", "10", "50%", "3"], [21, 25]) == (3, 10, 11, 21)


def test_by_default_counts_that_are_not_there_are_left_out() -> None:
    assert label_counts([], [7]) == (3, 5, 7)
    assert label_counts([], [2]) == (2,)
    assert label_counts([], [200]) == (3, 5, 10, 200)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("12", "--labels 12: there are 8 labelled cases to draw from"),
        ("0", "--labels 0: give whole numbers of cases, such as 5, or shares, such as 50%."),
        ("2.5", "--labels 2.5: give whole numbers"),
        ("120%", "--labels 120%: give whole numbers"),
        ("5%x", "--labels 5%x: give whole numbers"),
        ("few", "--labels few: give whole numbers"),
    ],
)
def test_label_counts_that_make_no_sense_are_refused(asked: str, message: str) -> None:
    with pytest.raises(BenchmarkError) as refused:
        label_counts([asked], [8])
    assert message in str(refused.value)
