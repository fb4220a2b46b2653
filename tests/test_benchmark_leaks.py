"""Test cases that were seen before are found by what they show, and left out."""

from __future__ import annotations

import pytest

from nnunet_volf.benchmark.experiment import Cases
from nnunet_volf.benchmark.leaks import Seen, without_leaks
from nnunet_volf.errors import BenchmarkError

CASES = {0: Cases(test=("t1", "t2", "t3"), validation=("v1",), pool=("p1", "p2"))}
CONTENTS = {case: (f"{case}-a", f"{case}-b") for case in ("t1", "t2", "t3", "v1", "p1", "p2")}
FINE = Seen("w.pth", {"x"}, "w.pth: compared with the 1 cases of Dataset501.")


def test_when_nothing_was_seen_all_stays_and_it_is_said() -> None:
    checked = without_leaks(CASES, CONTENTS, [FINE])
    assert checked.cases == CASES
    assert checked.said == (
        FINE.about,
        "No test case occurs in what was pretrained on or among the training cases.",
    )


def test_a_test_case_of_which_one_channel_was_pretrained_on_is_left_out() -> None:
    checked = without_leaks(CASES, CONTENTS, [FINE, Seen("v.pth", {"t2-b"}, "v.pth: compared.")])
    assert checked.cases[0] == Cases(("t1", "t3"), ("v1",), ("p1", "p2"))
    assert checked.said[-1] == "1 of 3 test cases of fold 0 were pretrained on and are left out: t2."


def test_a_test_case_that_is_a_training_case_under_another_name_is_left_out() -> None:
    checked = without_leaks(CASES, {**CONTENTS, "t3": CONTENTS["p2"]}, [])
    assert checked.cases[0].test == ("t1", "t2")
    assert checked.said == ("1 of 3 test cases of fold 0 are training cases and are left out: t3.",)


def test_one_equal_channel_does_not_make_two_labelled_cases_the_same() -> None:
    assert without_leaks(CASES, {**CONTENTS, "t3": ("p2-a", "other")}, []).cases == CASES


def test_when_no_test_case_is_left_it_says_how_to_pretrain_without_them() -> None:
    with pytest.raises(BenchmarkError) as refused:
        without_leaks(CASES, CONTENTS, [Seen("w.pth", {"t1-a", "t2-a", "t3-a"}, "")])
    assert str(refused.value).startswith(
        "None of the 3 test cases of fold 0 can be used: 3 of them were pretrained on, and 0 occur among"
    )
    assert "nnunet-volf pretrain FOLDER --for DATASET" in str(refused.value)


def test_what_cannot_be_checked_is_said() -> None:
    assert without_leaks(CASES, None, [FINE]).said == ("Not checked: the images of the dataset are not in nnUNet_raw.",)
    unread = without_leaks(CASES, {**CONTENTS, "t1": (None, "t1-b"), "p1": (None, "p1-b")}, [])
    assert unread.cases == CASES
    assert unread.said == ("2 cases have images that could not be read, so they are not checked.",)


def test_many_leaks_are_counted_and_some_are_named() -> None:
    many = tuple(f"t{n}" for n in range(9))
    contents = {case: (case,) for case in (*many, "v", "p")}
    checked = without_leaks({0: Cases(many, ("v",), ("p",))}, contents, [Seen("w", set(many[:7]), "w.")])
    assert checked.said[-1].endswith("left out: t0, t1, t2, t3, t4 and 2 others.")
