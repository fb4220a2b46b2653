"""The script that compares an arm of several benchmarks."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import benchmark_results
import pytest
from written_benchmarks import write_benchmark

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
EQUAL = {"scratch": 0.0, "volf": 0.0}
ASKED = benchmark_results.experiment(arms=("scratch", "volf"), labels=(3,), seeds=3)


def between(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["between_benchmarks.py", *arguments])
    importlib.import_module("between_benchmarks").main()


def test_an_arm_is_compared_between_folders_by_case_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = write_benchmark(tmp_path / "usual", ASKED, EQUAL)
    other = replace(ASKED, settings={"optimizer": "sgd"})
    better = write_benchmark(tmp_path / "better", other, {"scratch": 0.08, "volf": 0.08})
    between(monkeypatch, usual, better, "--arm", "volf")
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert "minus usual" in head
    first, second = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    assert first[:2] == ["3", "usual"]
    assert second[:2] == ["3", "better"]
    assert float(second[2]) == pytest.approx(float(first[2]) + 0.08, abs=0.0011)  # both are rounded to 0.001
    assert second[4] == "+0.080 (+0.080 to +0.080)"
    assert second[5] == "12 / 0"


def test_benchmarks_of_other_steps_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = {"short": ASKED, "long": replace(ASKED, epochs=40)}
    folders = [write_benchmark(tmp_path / name, asked, EQUAL) for name, asked in questions.items()]
    with pytest.raises(SystemExit):
        between(monkeypatch, *folders)
    assert "short and long differ in epochs, not only in their plans or their schedule" in capsys.readouterr().err
