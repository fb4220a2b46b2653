"""Charts of a benchmark: everything is drawn at its place, worked out here once more from the picture's own ticks."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.benchmark.analysis.comparisons import MEAN, Comparison, Level
from nnunet_volf.benchmark.analysis.convergence import Convergence
from nnunet_volf.benchmark.analysis.statistics import Interval
from nnunet_volf.benchmark.report.charts import (
    MOST_POINTS,
    NARROW,
    WIDE,
    case_axis,
    case_chart,
    convergence_axis,
    convergence_chart,
    dice_chart,
)
from nnunet_volf.benchmark.report.drawing import Axis, apart, axis_over, legend_marker, styles_of
from nnunet_volf.pretext.catalogue import METHODS

ARMS = ("scratch", "volf", "mine")
STYLES = {"scratch": "arm0", "volf": "arm1", "mine": "arm4"}


def level(arm: str, labels: int, value: float, seeds: Sequence[float] = ()) -> Level:
    mean = Interval(value, value - 0.03, value + 0.02)
    return Level(arm, labels, "dice", MEAN, mean, tuple(seeds) or (value,), {"a": value}, 0)


def comparison(differences: Mapping[str, float], interval: Interval | None = None, arm: str = "volf") -> Comparison:
    values = list(differences.values())
    return Comparison(
        arm=arm,
        labels=3,
        metric="dice",
        label=MEAN,
        difference=interval or Interval(sum(values) / len(values), min(values), max(values)),
        per_seed=(0.0,),
        per_case=differences,
        better=sum(value > 0 for value in values),
        worse=sum(value < 0 for value in values),
        equal=sum(value == 0 for value in values),
        p=0.5,
        p_holm=0.5,
        verdict="unclear",
    )


def convergence(arm: str, curve: Sequence[float], reached: int | None = None, target: float = 0.8) -> Convergence:
    spread = tuple((value - 0.01, value + 0.02) for value in curve)
    return Convergence(arm, 3, tuple(curve), spread, reached, 50, target)


def parse(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)


def of_class(drawing: str, *names: str) -> list[ElementTree.Element]:
    return [e for e in parse(drawing).iter() if set(names) <= set(e.get("class", "").split())]


def centre(mark: ElementTree.Element) -> tuple[float, float]:
    if mark.tag == "circle":
        return float(mark.get("cx", "")), float(mark.get("cy", ""))
    corners = [tuple(map(float, corner.split(","))) for corner in mark.get("points", "").split()]
    xs, ys = zip(*corners, strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def values_up(drawing: str) -> tuple[float, float]:
    """Return slope and offset from a height in the picture to a value, from the lowest and the highest tick."""
    ticks = [(float(t.get("y", "")) - 3.8, number(t.text)) for t in of_class(drawing, "level")]
    (y1, v1), (y2, v2) = min(ticks), max(ticks)
    return (v2 - v1) / (y2 - y1), v1 - y1 * (v2 - v1) / (y2 - y1)


def number(text: str | None) -> float:
    return float((text or "").replace("\N{MINUS SIGN}", "-").replace(",", ""))


def value_at(drawing: str, y: float) -> float:
    slope, offset = values_up(drawing)
    return slope * y + offset


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_markers_intervals_and_seeds_stand_at_their_dice(width: int) -> None:
    levels = [level("scratch", 3, 0.61, (0.6, 0.62)), level("volf", 3, 0.7, (0.69, 0.71)), level("volf", 40, 0.8)]
    drawing = dice_chart(levels, ARMS, width)
    assert value_at(drawing, centre(of_class(drawing, "mark", "arm0")[0])[1]) == pytest.approx(0.61, abs=1e-3)
    heights = [value_at(drawing, centre(mark)[1]) for mark in of_class(drawing, "mark", "arm1")]
    assert heights == pytest.approx([0.7, 0.8], abs=1e-3)
    seeds = [value_at(drawing, float(dot.get("cy", ""))) for dot in of_class(drawing, "seed", "arm0")]
    assert seeds == pytest.approx([0.6, 0.62], abs=1e-3)
    ends = [value_at(drawing, float(of_class(drawing, "whisker", "arm0")[0].get(y, ""))) for y in ("y1", "y2")]
    assert ends == pytest.approx([0.58, 0.63], abs=1e-3)


def test_numbers_of_labels_are_spaced_by_their_logarithm() -> None:
    drawing = dice_chart([level("volf", count, 0.7) for count in (3, 12, 48, 192)], ARMS)
    x = [centre(mark)[0] for mark in of_class(drawing, "mark")]
    steps = [b - a for a, b in pairwise(x)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    assert steps[0] > 100
    ticks = [tick.text for tick in of_class(drawing, "tick")]
    assert ticks[:4] == ["3", "12", "48", "192"]


def test_a_tick_never_lies_under_its_neighbour() -> None:
    drawing = dice_chart([level("volf", count, 0.7) for count in (1, 100, 101, 102, 1000)], ARMS, NARROW)
    assert [tick.text for tick in of_class(drawing, "tick")][:-1] == ["1", "100", "1,000"]


def test_arms_keep_their_colour_and_marker_whatever_else_is_compared() -> None:
    assert styles_of(("scratch", "volf"))["volf"] == styles_of(("scratch", "stock", "mine", "volf"))["volf"]
    seven = [*("scratch", "volf", "encoder", "stock"), "a", "b", "c"]
    styles = [styles_of(seven)[arm] for arm in seven]
    assert len(set(styles)) == 7
    shapes = {re.sub(r"arm\d", "", legend_marker(style)) for style in styles}
    assert len(shapes) == 7


def test_every_method_has_a_colour_and_marker_of_its_own_and_other_arms_take_what_is_left() -> None:
    all_known = ("scratch", *METHODS, "encoder", "stock")
    assert sorted(styles_of(all_known).values()) == list(range(7))
    for method in METHODS:
        assert styles_of((method,))[method] == styles_of(("scratch", "mine", method))[method]
        assert styles_of(("scratch", "mine", method))["mine"] != styles_of((method,))[method]
    six = ("scratch", "volf", "mae", "voco", "mine", "yours")
    assert len(set(styles_of(six).values())) == 6
    many = (*all_known, *(f"arm_{number}" for number in range(9)))
    assert styles_of(many).keys() == set(many)


@pytest.mark.parametrize("arms", [("scratch",), ("scratch", "volf", "encoder", "stock", "a" * 60, "<b>")])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("counts", [(5,), (3, 5, 10)])
def test_one_arm_or_six_one_seed_or_three_one_number_of_labels_or_more(
    arms: Sequence[str], seeds: int, counts: Sequence[int]
) -> None:
    levels = [level(arm, n, 0.7, [0.7] * seeds) for arm in arms for n in counts]
    for width in (WIDE, NARROW):
        drawing = dice_chart(levels, arms, width)
        assert len(of_class(drawing, "mark")) == len(arms) * len(counts)
        assert len(of_class(drawing, "seed")) == (len(levels) * 3 if seeds == 3 else 0)
        assert all(0 <= centre(mark)[0] <= width for mark in of_class(drawing, "mark"))
        assert "nan" not in drawing
        assert "<b>" not in drawing


def test_names_at_the_ends_of_lines_do_not_lie_on_each_other() -> None:
    arms = ("scratch", "volf", "encoder", "stock", "a", "b")
    drawing = dice_chart([level(arm, 3, 0.7) for arm in arms], arms)
    heights = sorted(float(name.get("y", "")) for name in of_class(drawing, "name"))
    assert len(heights) == 6
    assert all(b - a >= 14.9 for a, b in pairwise(heights))


def test_curves_are_drawn_over_iterations_and_marked_where_they_reach_the_target() -> None:
    curve = [0.5 + 0.04 * epoch for epoch in range(10)]
    rows = [convergence("scratch", curve, 450, 0.85), convergence("volf", [v + 0.1 for v in curve], 200, 0.85)]
    drawing = convergence_chart(rows, ARMS, 50, convergence_axis(rows))
    ticks = [(float(t.get("x", "")), number(t.text)) for t in of_class(drawing, "tick") if t.text != "iterations"]
    (x1, v1), (x2, v2) = ticks[0], ticks[-1]
    x, y = centre(of_class(drawing, "mark", "arm1")[0])
    assert v1 + (x - x1) * (v2 - v1) / (x2 - x1) == pytest.approx(200, abs=2)
    assert value_at(drawing, y) == pytest.approx(0.85, abs=2e-3)
    line = of_class(drawing, "line", "arm0")[0].get("d", "")
    points = [tuple(map(float, point.split())) for point in line.lstrip("M").split("L")]
    drawn = {round(v1 + (x - x1) * (v2 - v1) / (x2 - x1)): value_at(drawing, y) for x, y in points}
    for epoch in range(1, 10):
        assert drawn[(epoch + 1) * 50] == pytest.approx(curve[epoch], abs=3e-3)


def test_an_arm_that_never_reaches_the_target_has_no_marker() -> None:
    rows = [convergence("volf", [0.1, 0.2], None)]
    drawing = convergence_chart(rows, ARMS, 50, convergence_axis(rows))
    assert of_class(drawing, "mark") == []
    assert len(of_class(drawing, "line")) == 1


@pytest.mark.parametrize("epochs", [1, 2, 1000])
def test_long_and_short_curves_have_a_chart_of_the_same_size(epochs: int) -> None:
    rows = [convergence(arm, [1 - 0.9 ** (n + 1) for n in range(epochs)], 50) for arm in ARMS]
    drawing = convergence_chart(rows, ARMS, 250, convergence_axis(rows))
    for line in of_class(drawing, "line"):
        assert 1 <= line.get("d", "").count("L") + 1 <= MOST_POINTS
    assert len(drawing) < 30_000


def test_bars_of_cases_begin_at_zero_and_end_at_their_difference_in_order() -> None:
    differences = {"b": 0.04, "a": -0.02, "c": 0.0, "d": 0.01}
    compared = comparison(differences)
    drawing = case_chart(compared, ARMS, case_axis([compared]))
    bars = of_class(drawing, "case")
    found = []
    for bar in bars:
        top, tall = float(bar.get("y", "")), float(bar.get("height", ""))
        ends = value_at(drawing, top), value_at(drawing, top + tall)
        found.append({"up": ends[0], "down": ends[1], "flat": sum(ends) / 2}[bar.get("class", "").split()[1]])
    assert found == pytest.approx([-0.02, 0.0, 0.01, 0.04], abs=1e-3)
    assert [float(b.get("x", "")) for b in bars] == sorted(float(b.get("x", "")) for b in bars)


def test_the_ticks_of_differences_say_what_they_stand_at() -> None:
    compared = comparison({"a": -0.07, "b": 0.078})
    drawing = case_chart(compared, ARMS, case_axis([compared]))
    ticks = [number(tick.text) for tick in of_class(drawing, "level")]
    steps = [b - a for a, b in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert 0 in ticks


def test_of_a_thousand_cases_a_hundred_bars_are_drawn_that_stand_for_all() -> None:
    compared = comparison({f"case_{n}": (n - 300) / 1000 for n in range(1000)})
    drawing = case_chart(compared, ARMS, case_axis([compared]))
    assert len(of_class(drawing, "case")) == MOST_POINTS
    counted = [int(count) for count in re.findall(r"<title>(\d+) cases from", drawing)]
    assert sum(counted) == 1000
    assert len(of_class(drawing, "down")) == pytest.approx(30, abs=1)


def test_cases_without_any_difference_have_a_chart() -> None:
    compared = comparison({"a": 0.0, "b": 0.0})
    drawing = case_chart(compared, ARMS, case_axis([compared]))
    assert len(of_class(drawing, "level")) >= 2
    assert "nan" not in drawing


def test_what_a_picture_shows_is_said_for_those_who_do_not_see_it() -> None:
    compared = comparison({"a": -0.07, "b": 0.078, "c": 0.01})
    drawing = parse(case_chart(compared, ARMS, case_axis([compared])))
    said = "Differences of volf to scratch with 3 labelled cases: 2 cases better, 1 worse, 0 equal"
    assert (drawing.get("role"), drawing.get("aria-label")) == ("img", said)
    assert drawing[0].tag == "title"
    assert drawing[0].text == said


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_an_axis_holds_all_its_values_and_a_few_round_ticks(values: list[float]) -> None:
    axis = axis_over(values, 200, 10)
    assert all(10 <= axis.at(value) <= 200 for value in values)
    assert 1 <= len(axis.ticks()) <= 7
    assert all(axis.low - 1e-9 <= tick <= axis.high + 1e-9 for tick in axis.ticks())


@given(st.floats(1, 1e4), st.floats(1.01, 1e3), st.floats(0, 1))
def test_a_logarithmic_axis_is_even_in_ratios(low: float, ratio: float, share: float) -> None:
    axis = Axis(low, low * ratio, 0, 100, logarithmic=True)
    assert axis.at(low * math.exp(share * math.log(ratio))) == pytest.approx(100 * share, abs=1e-6)


@given(st.lists(st.floats(0, 100), max_size=7))
def test_places_are_moved_apart_in_order_and_stay_where_there_is_room(wanted: list[float]) -> None:
    placed = apart(wanted, 15, 0, 100)
    ordered = sorted(range(len(wanted)), key=lambda n: wanted[n])
    places = [placed[n] for n in ordered]
    assert all(b - a >= 15 - 1e-6 for a, b in pairwise(places))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in places)
    distances = [b - a for a, b in zip(sorted(wanted), sorted(wanted)[1:], strict=False)]
    if all(distance >= 15 for distance in distances):
        assert placed == pytest.approx(wanted, abs=1e-6)
