"""Fine-tuning and benchmark killed outright and run again, by the functions that docs/reliability.md has figures of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_what_differs_is_named() -> None:
    from kills import differences

    assert differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "d": 4}) == ["b differs", "c differs", "d differs"]
    assert differences({"a": [1]}, {"a": [1]}) == []


def test_faults_are_in_the_table() -> None:
    from kills import Record, table

    *_, good, bad = table([Record("import", 20, 18, 3), Record("pretrain", 20, 9, 2, ["x is left", "x is left"])])
    assert good == "| import | 20 | 18 | 3 | nothing |"
    assert bad == "| pretrain | 20 | 9 | 2 | x is left |"


@pytest.mark.weekly
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_killed_while_fine_tuning_and_comparing_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    from kills import campaign

    for record in campaign(tmp_path, ["fine-tune", "benchmark"], kills=3, seed=1):
        assert record.kills == 3
        assert record.rounds > 0
        assert record.faults == [], record.stage
