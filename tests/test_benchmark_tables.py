"""The results for other programs, and as a table for the terminal."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

from benchmark_results import experiment, outcomes

from nnunet_volf.benchmark.analysis.findings import Findings, findings
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.tables import report_json, terminal_table, write_results_csv
from nnunet_volf.files import write_json

ASKED = experiment(test_cases=6)
DONE = outcomes(ASKED)
FOUND = findings(ASKED, DONE, [])


def test_the_csv_has_every_score_once_to_its_last_digit(tmp_path: Path) -> None:
    write_results_csv(tmp_path / "results.csv", DONE)
    with (tmp_path / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    expected = {
        (o.run.arm, o.run.labels, o.run.seed, o.run.fold, s.case, s.label): (s.dice, s.nsd, s.hd95, s.assd)
        for o in DONE
        for s in o.scores
    }
    assert len(lines) == len(expected) == 24 * 6 * 2
    for line in lines:
        key = (line["arm"], int(line["labels"]), int(line["seed"]), int(line["fold"]), line["case"], line["class"])
        assert tuple(float(line[metric]) for metric in ("dice", "nsd", "hd95", "assd")) == expected[key]
        assert line["rate"] == "1.0"


def test_a_score_that_is_none_is_an_empty_cell(tmp_path: Path) -> None:
    missing = replace(DONE[0].scores[0], dice=None, nsd=None, hd95=None, assd=None)
    write_results_csv(tmp_path / "results.csv", [replace(DONE[0], scores=(missing,))])
    header, line = (tmp_path / "results.csv").read_text().splitlines()
    assert header == "arm,labels,seed,fold,rate,case,class,dice,nsd,hd95,assd"
    assert line == "scratch,3,0,0,1.0,case_000,anterior,,,,"


def test_the_csv_is_the_same_whatever_order_the_trainings_end_in(tmp_path: Path) -> None:
    write_results_csv(tmp_path / "one.csv", DONE)
    write_results_csv(tmp_path / "other.csv", DONE[::-1])
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.csv", "other.csv"]


def test_a_case_name_with_a_comma_stays_one_cell(tmp_path: Path) -> None:
    odd = replace(DONE[0].scores[0], case='a,"b"')
    write_results_csv(tmp_path / "results.csv", [replace(DONE[0], scores=(odd,))])
    with (tmp_path / "results.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["case"] == 'a,"b"'


def test_the_report_is_strict_json_that_gives_the_question_and_the_findings_back(tmp_path: Path) -> None:
    content = report_json(ASKED, DONE, FOUND)
    json.dumps(content, allow_nan=False)
    write_json(tmp_path / "report.json", content)
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == content
    assert read["format"] == 1
    assert Experiment.from_mapping(read["experiment"]) == ASKED
    assert read["findings"]["verdict"]["sentence"] == FOUND.verdict.sentence
    level = FOUND.levels[0]
    assert read["findings"]["levels"][0]["mean"] == {
        "value": level.mean.value,
        "low": level.mean.low,
        "high": level.mean.high,
    }
    assert len(read["runs"]) == len(DONE)
    first = read["runs"][0]
    assert Experiment.from_mapping(read["experiment"]).runs()[0].__dict__.keys() == first["run"].keys()
    assert first["seconds"] == 60.0
    assert len(first["curve"]) == 20


def test_a_number_that_json_does_not_know_becomes_null() -> None:
    odd = replace(DONE[0], seconds=math.inf, conditions={"memory": math.nan, 3: (1.5, -math.inf)})
    (run,) = report_json(ASKED, [odd], FOUND)["runs"]
    assert (run["seconds"], run["conditions"]) == (None, {"memory": None, "3": [1.5, None]})


def row(table: str, labels: str, arm: str) -> list[str]:
    current = ""
    for line in table.splitlines()[2:]:
        current = line[:6].strip() or current
        cells = line[6:].split()
        if (current, cells[0]) == (labels, arm):
            return cells[1:]
    raise AssertionError(table)


def test_the_table_has_a_row_for_each_number_of_labels_and_arm() -> None:
    table = terminal_table(FOUND)
    assert len(table.splitlines()) == 2 + 2 * 4
    scratch = next(
        lev for lev in FOUND.levels if (lev.arm, lev.labels, lev.metric, lev.label) == ("scratch", 10, "dice", "mean")
    )
    mean = sum(scratch.per_seed) / 3
    spread = math.sqrt(sum((value - mean) ** 2 for value in scratch.per_seed) / 2)
    assert row(table, "10", "scratch") == [f"{scratch.mean.value:.3f}", "±", f"{spread:.3f}"]
    volf = next(c for c in FOUND.comparisons if (c.arm, c.labels, c.metric, c.label) == ("volf", 3, "dice", "mean"))
    cells = row(table, "3", "volf")
    assert cells[3:7] == [
        f"{volf.difference.value:+.3f}",
        f"{volf.difference.low:+.3f}",
        "to",
        f"{volf.difference.high:+.3f}",
    ]
    assert cells[7] == f"{volf.better}/{volf.worse}/{volf.equal}"
    assert volf.p_holm is not None
    assert float(cells[8]) == round(volf.p_holm, 3)


def test_the_table_fits_100_columns_whatever_the_arm_is_called() -> None:
    name = "a_very_long_name_of_an_arm_with_weights_of_its_own"
    asked = experiment(arms=[f"{name}=other.pth", "volf"], labels=[3, 10_000], test_cases=2)
    levels = findings(asked, outcomes(asked), [])
    table = terminal_table(levels)
    assert max(len(line) for line in table.splitlines()) <= 100
    assert "a_very_long_nam…" in table
    many = replace(
        levels,
        comparisons=tuple(replace(c, better=1000, worse=1000, equal=100, p_holm=1e-9) for c in levels.comparisons),
    )
    assert max(len(line) for line in terminal_table(many).splitlines()) <= 100
    assert "< 0.001" in terminal_table(many)


def test_one_seed_has_no_spread() -> None:
    asked = experiment(arms=["volf"], labels=[3], seeds=1)
    assert row(terminal_table(findings(asked, outcomes(asked), [])), "3", "scratch")[1:] == ["1", "seed"]


def test_a_table_of_nothing_is_its_header() -> None:
    nothing: Findings = findings(ASKED, [], [])
    assert len(terminal_table(nothing).splitlines()) == 2
