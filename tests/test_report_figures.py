"""Plots of a report: all cases are in them, whatever their values."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nnunet_volf.preprocessing.report_figures import histograms, profile, spans_scales


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-9, 7.0])
def test_equal_values_have_a_figure(value: float) -> None:
    assert histograms([("x", np.full(5, value))], "mm").count("<rect") == 1
    assert "nan" not in profile(np.full((5, 3), value))


@pytest.mark.parametrize("high", [2.0, 7.0, 9.0, 50.0, 90.0, 1e3, 1e6])
def test_a_histogram_has_a_few_round_ticks_within_its_range(high: float) -> None:
    drawn = histograms([("x", np.array([0.99, high]))], "mm")
    ticks = [float(tick.replace(",", "")) for tick in re.findall(r'class="tick"[^>]*>([^<]+)<', drawn)]
    assert 2 <= len(ticks) <= 6
    assert all(0.99 <= tick <= high for tick in ticks)
    assert all(float(f"{tick:.1g}") == tick or tick < 10 for tick in ticks)


def test_the_bars_of_a_histogram_hold_every_case() -> None:
    generator = np.random.default_rng(0)
    for values in (generator.uniform(1, 3, 500), np.exp(generator.normal(0, 3, 500)), generator.normal(0, 9, 500)):
        counts = re.findall(r"<title>(\d+) of 500", histograms([("x", values)], "mm"))
        assert sum(map(int, counts)) == 500


def test_intensities_that_differ_by_factors_are_drawn_on_a_logarithmic_axis() -> None:
    scales = np.geomspace(1, 1000, 50)[:, None] * np.array([0.0, 1.0, 2.0])
    levels = [float(y) for y in re.findall(r'class="level" x="40.0" y="([\d.]+)"', profile(scales))]
    assert len(levels) >= 3
    assert np.allclose(np.diff(levels), np.diff(levels)[0], rtol=0.6)
    line = re.findall(r'class="line" d="M([^"]+)"', profile(scales))[0]
    heights = np.array([float(point.split()[1]) for point in line.split("L")])
    assert np.allclose(np.diff(heights), np.diff(heights).mean(), atol=0.2)


@pytest.mark.parametrize("values", [np.array([[-1000.0, 1.0, 3000.0]]), np.array([[0.0, 0.0, 1.0]])])
def test_values_below_zero_or_of_zero_stay_on_a_linear_axis(values: np.ndarray) -> None:
    assert not spans_scales(np.concatenate([values, 100 * values]))


def test_many_cases_share_the_columns_of_a_profile() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=(50_000, 3)), axis=1)
    assert len(profile(values)) < 10_000
