"""The picture of what benchmarks found."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import benchmark_results
import pytest
from matplotlib import image
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from written_benchmarks import write_benchmark

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
ASKED = benchmark_results.experiment(arms=("scratch", "volf", "encoder"), labels=(3, 10), seeds=3)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("results_picture")


def test_markers_stand_at_the_means_of_the_report(script: ModuleType, tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path / "b", ASKED, {"scratch": 0.0, "volf": 0.1, "encoder": -0.05})
    levels = script.levels(Path(folder), "dice")
    axes = Figure().subplots()
    marks = script.marks_of(["scratch", "volf", "encoder"])
    script.panel(axes, levels, marks)

    drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(drawn) == ["scratch", "volf", "encoder"]
    for arm, line in drawn.items():
        means = [level.mean.value for level in levels if level.arm == arm]
        assert list(line.get_ydata()) == pytest.approx(means)
        assert to_hex(line.get_color()) == marks[arm][0]
    assert drawn["volf"].get_ydata()[0] > drawn["scratch"].get_ydata()[0] > drawn["encoder"].get_ydata()[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["3", "10"]
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == 3 * 2 * 3  # arms, numbers of labels, seeds


def test_arms_without_a_look_of_their_own_differ(script: ModuleType) -> None:
    marks = script.marks_of(["scratch", "k2", "boxes", "mae"])
    assert len(set(marks.values())) == 4
    assert next(iter(marks)) == "scratch"


def test_a_panel_for_each_task(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_benchmark(tmp_path / "b", ASKED, dict.fromkeys(("scratch", "volf", "encoder"), 0.0))
    shapes = []
    for number in (1, 2):
        path = tmp_path / "pictures" / f"{number}.png"
        tasks = [f"Task {n}={folder}" for n in range(number)]
        monkeypatch.setattr(sys, "argv", ["results_picture.py", *tasks, "-o", str(path)])
        script.main()
        shapes.append(image.imread(path).shape)
    (height, one, _), (same_height, two, _) = shapes
    assert height == same_height
    assert one < two < 2 * one
