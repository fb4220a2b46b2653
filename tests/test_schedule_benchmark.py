"""benchmarks/schedules.py keeps what is done, goes on from there, and prints a table; nothing is trained here."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import REPOSITORY

from nnunet_volf.errors import SettingsError

CASES = [f"case_{number}" for number in range(4)] + ["test_0", "test_1"]
DICE = {("sgd", None): 0.5, ("sgd", "w.pth"): 0.625, ("adamw", None): 0.25, ("adamw", "w.pth"): 0.75}
ARMS = ["--arm", "plain=optimizer:sgd", "--arm", "warm=optimizer:adamw,warmup:0.2"]
STARTS = ["--weights", "whole=w.pth"]


class Bench:
    """The script, with a training that only notes what it was asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # which the script sets where nobody has
        self.script = importlib.import_module("schedules")
        self.monkeypatch = monkeypatch
        self.output = folder / "done.jsonl"
        self.trained: list[tuple[str, str | None, int, tuple[str, ...]]] = []
        self.dies_after = 1000
        task = SimpleNamespace(dataset=SimpleNamespace(name="Dataset901_Phantom"), identifiers=lambda: CASES)
        monkeypatch.setattr(self.script, "Task", SimpleNamespace(find=lambda *_: task))
        monkeypatch.setattr(self.script, "train", self.train)
        monkeypatch.setattr(self.script.torch, "set_num_threads", lambda _: None)

    def train(
        self,
        _task: object,
        settings: Mapping[str, Any],
        weights: str | None,
        seed: int,
        cases: list[str],
        test: list[str],
        scope: str,
    ) -> dict[str, Any]:
        if len(self.trained) == self.dies_after:
            raise KeyboardInterrupt
        assert test == ["test_0", "test_1"]
        assert not set(cases) & set(test)
        self.trained.append((settings["optimizer"], weights, seed, tuple(cases)))
        mean = DICE[settings["optimizer"], weights] + seed / 8 - (0.125 if scope == "encoder" else 0)
        return {"mean": mean, "classes": [mean, mean / 2], "seconds": 1}

    def run(self, *more: str, test_cases: str = "test_") -> list[str]:
        """Run the script, and return the rows that it prints."""
        fixed = ["901", "--test-cases", test_cases, "--labels", "2", "--seeds", "1", "2", "--output", str(self.output)]
        self.monkeypatch.setattr(sys, "argv", ["schedules.py", *fixed, *more])
        printed: list[str] = []
        self.monkeypatch.setattr(self.script, "print", lambda *text, **_: printed.extend(text), raising=False)
        self.script.main()
        return [row for text in printed for row in text.splitlines() if row.startswith("| ")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_the_table_has_a_row_an_arm_and_start_and_compares_each_with_scratch_seed_by_seed(bench: Bench) -> None:
    assert bench.run(*ARMS, *STARTS, "--encoder", "half=w.pth") == [
        "| arm | start | mean Dice | each seed | each class | minus scratch |",
        "| plain | scratch | 0.688 | 0.625, 0.750 | 0.688, 0.344 |  |",
        "| plain | whole | 0.812 | 0.750, 0.875 | 0.812, 0.406 | +0.125 ± 0.000 |",
        "| plain | half | 0.688 | 0.625, 0.750 | 0.688, 0.344 | +0.000 ± 0.000 |",
        "| warm | scratch | 0.438 | 0.375, 0.500 | 0.438, 0.219 |  |",
        "| warm | whole | 0.938 | 0.875, 1.000 | 0.938, 0.469 | +0.500 ± 0.000 |",
        "| warm | half | 0.812 | 0.750, 0.875 | 0.812, 0.406 | +0.375 ± 0.000 |",
    ]


def test_all_arms_of_a_seed_train_on_the_same_cases_and_seed_follows_seed(bench: Bench) -> None:
    bench.run(*ARMS, *STARTS)
    assert [seed for _, _, seed, _ in bench.trained] == [1] * 4 + [2] * 4
    by_seed = {seed: {cases for _, _, s, cases in bench.trained if s == seed} for seed in (1, 2)}
    assert {len(cases) for cases in by_seed.values()} == {1}
    assert all(len(cases) == 2 for (cases,) in by_seed.values())


def test_a_killed_run_goes_on_where_it_stopped_and_prints_the_table_of_an_undisturbed_one(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        bench.run(*ARMS, *STARTS)
    bench.dies_after = 1000
    table = bench.run(*ARMS, *STARTS)
    assert len(bench.trained) == len(set(bench.trained)) == 8
    assert bench.run(*ARMS, *STARTS) == table
    assert len(bench.trained) == 8, "what is finished is not trained again"
    (tmp_path / "calm").mkdir()
    assert Bench(tmp_path / "calm", monkeypatch).run(*ARMS, *STARTS) == table


def test_a_training_whose_line_a_kill_has_cut_short_is_done_again(bench: Bench) -> None:
    bench.run(*ARMS, *STARTS)
    last = bench.trained[-1]
    bench.output.write_text(bench.output.read_text()[:-20])
    bench.run(*ARMS, *STARTS)
    assert bench.trained[8:] == [last]
    bench.run(*ARMS, *STARTS)
    assert len(bench.trained) == 9


def test_parts_do_all_trainings_once(bench: Bench) -> None:
    for part in ("0/3", "1/3", "2/3"):
        bench.run(*ARMS, *STARTS, "--part", part)
    assert len(bench.trained) == len(set(bench.trained)) == 8


def test_other_settings_are_other_trainings(bench: Bench) -> None:
    bench.run(*ARMS)
    bench.run(*ARMS, "--set", "epochs=7")
    assert len(bench.trained) == 8
    lines = [json.loads(line) for line in bench.output.read_text().splitlines()]
    assert [line["settings"]["epochs"] == 7 for line in lines] == [False] * 4 + [True] * 4


def test_arms_can_come_from_a_file_and_test_cases_too(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "arms.json").write_text(json.dumps({"one": {"optimizer": "sgd"}}))
    (tmp_path / "test.txt").write_text("test_0\ntest_1\n")
    rows = bench.run("--arms", str(tmp_path / "arms.json"), test_cases=str(tmp_path / "test.txt"))
    assert [row.split(" | ")[0] for row in rows] == ["| arm", "| one"]


@pytest.mark.parametrize(
    ("more", "test_cases", "message"),
    [
        ([], "other_", "--test-cases other_: not in the dataset: all of them"),
        (["--arm", "plain"], "test_", "'plain' is not of the form NAME="),
        (["--arm", "plain=epoch:3"], "test_", "There is no setting 'epoch'"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    bench: Bench, more: list[str], test_cases: str, message: str
) -> None:
    with pytest.raises((SystemExit, SettingsError), match=message):
        bench.run(*ARMS, *more, test_cases=test_cases)
    assert not bench.trained
