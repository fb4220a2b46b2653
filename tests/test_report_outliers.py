"""Which cases a report calls worth a look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reports import Outline, case, facts, page_of, report

from nnunet_volf.preprocessing.report import cases_to_show
from nnunet_volf.preprocessing.report_data import measure
from nnunet_volf.preprocessing.report_outliers import find_outliers


def test_the_case_with_another_spacing_is_worth_a_look(tmp_path: Path) -> None:
    cases = [case(n) for n in range(30)] + [case(99, spacing=[2.5, 7.5, 0.8])]
    outliers = find_outliers(report(cases), measure(report(cases)))
    assert [(o.case, o.aspect, o.what) for o in outliers] == [
        (case(99)["case"], "spacing", "spacing along y 7.5 mm (median 0.75 mm)")
    ]
    assert "spacing along y 7.5 mm" in Outline(page_of(report(cases), tmp_path)).text


def test_the_case_with_another_size_or_intensity_is_worth_a_look() -> None:
    odd = [case(98, shape=[9, 512, 384]), case(99, channels=[facts(median=900.0)])]
    cases = [case(n) for n in range(30)] + odd
    outliers = find_outliers(report(cases), measure(report(cases)))
    assert {o.case: o.what for o in outliers} == {
        odd[0]["case"]: "size along z 22.5 mm (median 250 mm)",
        odd[1]["case"]: "median intensity 900 (median 40)",
    }


def test_ordinary_scatter_is_not_worth_a_look() -> None:
    generator = np.random.default_rng(0)
    cases = [case(n, spacing=[float(generator.uniform(2, 2.6)), 0.75, 0.8]) for n in range(300)]
    assert find_outliers(report(cases), measure(report(cases))) == []


@pytest.mark.parametrize(("thick", "standing_out"), [(2, 2), (30, 0)])
def test_a_second_protocol_is_no_outlier(thick: int, standing_out: int) -> None:
    cases = [case(n, spacing=[7.5 if n < thick else 2.5, 0.75, 0.8]) for n in range(100)]
    assert len(find_outliers(report(cases), measure(report(cases)))) == standing_out


@pytest.mark.parametrize("number", [3, 5, 10, 19])
def test_one_odd_case_stands_out_among_few(number: int) -> None:
    cases = [case(n) for n in range(number - 1)] + [case(99, spacing=[9.0, 0.75, 0.8])]
    assert [o.case for o in find_outliers(report(cases), measure(report(cases)))] == [case(99)["case"]]


def test_outliers_of_one_aspect_do_not_crowd_out_those_of_another(tmp_path: Path) -> None:
    cases = [case(n) for n in range(500)]
    cases += [case(1000 + n, spacing=[50.0, 0.75, 0.8]) for n in range(20)] + [case(5000, shape=[300, 512, 384])]
    text = Outline(page_of(report(cases), tmp_path)).text
    assert "size along z 750 mm" in text
    assert text.count("spacing along z 50 mm") == 4
    assert "and 16 more" in text


def test_the_cases_to_show_are_those_the_page_names(tmp_path: Path) -> None:
    content = report([case(n) for n in range(30)] + [case(99, spacing=[2.5, 7.5, 0.8])])
    assert cases_to_show(content) == [case(99)["case"]]
