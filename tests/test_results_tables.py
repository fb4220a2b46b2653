"""The tables of what benchmarks found."""

from __future__ import annotations

import importlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import benchmark_results
import numpy as np
import pytest
from written_benchmarks import write_benchmark

from nnunet_volf.benchmark.analysis.findings import findings
from nnunet_volf.benchmark.folder import run_folder
from nnunet_volf.benchmark.results import METRICS, Outcome, Run

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
GAINS = {"scratch": 0.0, "volf": 0.08, "encoder": 0.02}
ASKED = benchmark_results.experiment(arms=("scratch", "volf", "encoder"), labels=(3, 10), seeds=3)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("results_tables")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(write_benchmark(tmp_path / "b", ASKED, GAINS))


def rows_of(text: str) -> tuple[list[str], dict[tuple[str, str], list[str]]]:
    """Return the head of a table, and the cells behind labels and arm by both."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    return head, {(row[0], row[1]): row[2:] for row in rows}


def mean_dice(outcomes: list[Outcome], arm: str, labels: tuple[int, ...], seed: int | None = None) -> float:
    """Return the mean over all that is asked for, number by number."""
    return float(
        np.mean(
            [
                score.dice
                for outcome in outcomes
                if outcome.run.arm == arm and outcome.run.labels in labels and seed in (None, outcome.run.seed)
                for score in outcome.scores
            ]
        )
    )


def test_each_arm_has_a_row_for_each_number_of_labels_and_for_all(script: ModuleType, folder: Path) -> None:
    head, rows = rows_of(script.table(folder))
    assert head[:5] == ["labels", "arm", "Dice", "each seed", "minus scratch"]
    assert list(rows) == [(labels, arm) for labels in ("3", "10", "all") for arm in GAINS]
    outcomes = benchmark_results.outcomes(ASKED, GAINS)
    for (labels, arm), cells in rows.items():
        numbers = (3, 10) if labels == "all" else (int(labels),)
        assert float(cells[0]) == pytest.approx(mean_dice(outcomes, arm, numbers), abs=0.00051)
        seeds = [float(value) for value in cells[1].split(", ")]
        assert seeds == pytest.approx([mean_dice(outcomes, arm, numbers, seed) for seed in range(3)], abs=0.00051)
        gain = mean_dice(outcomes, arm, numbers) - mean_dice(outcomes, "scratch", numbers)
        assert arm == "scratch" or float(cells[2].split()[0]) == pytest.approx(gain, abs=0.00051)
    assert rows["3", "scratch"][2:5] == ["", "", ""]
    assert rows["3", "volf"][3] == "12 / 0"
    assert rows["3", "scratch"][-1].isdigit()
    assert rows["all", "volf"][-1] == ""  # the steps are those of one number of labels


def test_any_arm_may_be_what_the_others_are_compared_with(script: ModuleType, folder: Path) -> None:
    _, usual = rows_of(script.table(folder))
    head, turned = rows_of(script.table(folder, "volf"))
    assert head[4] == "minus volf"
    assert turned["3", "volf"][2] == ""
    there, back = (rows["3", arm][2].split()[0] for rows, arm in ((usual, "volf"), (turned, "scratch")))
    assert float(there) == -float(back) > 0
    assert turned["3", "scratch"][3] == "0 / 12"
    assert "from scratch" in script.table(folder)  # the verdict, which is about scratch
    assert "from scratch" not in script.table(folder, "volf")
    with pytest.raises(SystemExit, match="has no arm mae, but scratch, volf, encoder"):
        script.table(folder, "mae")


def test_what_is_not_done_is_left_out_and_said(script: ModuleType, folder: Path) -> None:
    for seed in range(3):
        shutil.rmtree(run_folder(folder, Run("encoder", 10, seed, 0)))
    shutil.rmtree(run_folder(folder, Run("encoder", 3, 1, 0)))
    text = script.table(folder)
    _, rows = rows_of(text)
    first, second, third = rows["3", "encoder"][1].split(", ")
    assert second == "-"
    assert 0 < float(first) != float(third) > 0
    assert ("10", "encoder") not in rows
    assert ("all", "encoder") not in rows
    assert ("all", "volf") in rows
    assert "Not done yet: 4 of 18 trainings (4 of encoder)." in text


def test_the_rates_are_those_that_the_report_shows(script: ModuleType, tmp_path: Path) -> None:
    asked = replace(ASKED, labels=(3,), rates=(0.5, 1.0))
    folder = Path(write_benchmark(tmp_path / "rates", asked, GAINS))
    _, rows = rows_of(script.table(folder))
    found = findings(*script.read(folder))
    shown = {level.arm: level.mean.value for level in found.levels if (level.metric, level.label) == ("dice", "mean")}
    assert {arm: float(cells[0]) for (_, arm), cells in rows.items()} == pytest.approx(shown, abs=0.00051)


def test_the_mean_over_labels_pairs_seeds_and_cases(script: ModuleType, folder: Path) -> None:
    experiment, outcomes, _ = script.read(folder)
    grid = script.grid_of(experiment, outcomes)
    for metric in METRICS:
        both = [grid.table("volf", labels, metric, "mean") for labels in (3, 10)]
        np.testing.assert_allclose(grid.table("volf", script.ALL, metric, "mean"), (both[0] + both[1]) / 2)


def test_tables_of_several_folders_are_printed(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["results_tables.py", str(folder), str(folder), "--against", "encoder"])
    script.main()
    out = capsys.readouterr().out
    assert out.count(f"{folder}\n") == 2
    assert out.count("minus encoder") == 2
