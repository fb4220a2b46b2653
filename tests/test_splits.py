"""Which cases are held out, for any number of cases and any fold."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nnunet_volf.splits import hold_one_out, pretraining_split


class Splitting:
    """A trainer as far as splitting looks at it, and nnU-Net's own split, which counts its calls."""

    def __init__(self, folder: Path, fold: int | str, cases: list[str]) -> None:
        self.asked = 0
        self.answer: tuple[list[str], list[str]] = (["from", "nnunet"], ["held"])
        self.trainer: Any = SimpleNamespace(
            preprocessed_dataset_folder_base=str(folder),
            preprocessed_dataset_folder=str(folder / "plans_3d_fullres"),
            fold=fold,
            dataset_class=SimpleNamespace(get_identifiers=lambda _: list(cases)),
        )

    def nnunet_split(self) -> tuple[list[str], list[str]]:
        self.asked += 1
        return self.answer

    def split(self) -> tuple[list[str], list[str]]:
        return pretraining_split(self.trainer, self.nnunet_split)


@pytest.mark.parametrize(("fold", "held"), [(0, "a"), (1, "b"), (2, "c"), (3, "a"), (4, "b")])
def test_one_case_is_held_out_counted_round(fold: int, held: str) -> None:
    training, held_out = hold_one_out(["a", "b", "c"], fold)
    assert held_out == [held]
    assert training == [name for name in "abc" if name != held]


def test_a_lone_case_is_trained_on_and_held_out() -> None:
    assert hold_one_out(["a"], 3) == (["a"], ["a"])


def test_no_case_at_all_is_no_case_for_either() -> None:
    assert hold_one_out([], 0) == ([], [])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_cases_than_folds_are_split_without_nnunet(tmp_path: Path, count: int) -> None:
    splitting = Splitting(tmp_path, 0, [f"case_{i}" for i in reversed(range(count))])
    training, held_out = splitting.split()
    assert splitting.asked == 0
    assert held_out == ["case_0"]
    assert training == [f"case_{i}" for i in range(min(1, count - 1), count)]


def test_such_a_split_writes_nothing(tmp_path: Path) -> None:
    Splitting(tmp_path, 0, ["a", "b"]).split()
    assert not list(tmp_path.iterdir())


def test_the_cases_are_read_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    splitting = Splitting(tmp_path, 0, [])
    asked_for: list[str] = []
    splitting.trainer.dataset_class.get_identifiers = lambda folder: asked_for.append(folder) or ["a", "b"]
    splitting.split()
    assert asked_for == [str(tmp_path / "plans_3d_fullres")]


def test_five_cases_are_split_by_nnunet(tmp_path: Path) -> None:
    splitting = Splitting(tmp_path, 0, [f"case_{i}" for i in range(5)])
    assert splitting.split() == splitting.answer
    assert splitting.asked == 1


def test_a_split_that_was_made_before_is_kept_for_few_cases_too(tmp_path: Path) -> None:
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["from", "nnunet"], "val": ["held"]}]))
    splitting = Splitting(tmp_path, 0, ["a", "b"])
    assert splitting.split() == splitting.answer


def test_fold_all_is_nnunets_however_few_cases_there_are(tmp_path: Path) -> None:
    splitting = Splitting(tmp_path, "all", ["a", "b"])
    splitting.answer = (["a", "b"], ["a", "b"])
    assert splitting.split() == (["a", "b"], ["a", "b"])
    assert splitting.asked == 1


def test_where_nothing_is_held_out_training_cases_serve_for_validation(tmp_path: Path) -> None:
    splitting = Splitting(tmp_path, 0, [f"case_{i}" for i in range(5)])
    splitting.answer = (["a", "b"], [])
    assert splitting.split() == (["a", "b"], ["a", "b"])


def test_the_lists_that_come_back_are_the_callers_own(tmp_path: Path) -> None:
    splitting = Splitting(tmp_path, 0, [f"case_{i}" for i in range(5)])
    training, held_out = splitting.split()
    training.clear()
    held_out.clear()
    assert splitting.answer == (["from", "nnunet"], ["held"])
