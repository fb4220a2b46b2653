"""What a user is told of an archive and a plan that do not fit, with the numbers and where it begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from nnunet_volf.plans import PlannedDataset
from nnunet_volf.preprocessing.comparison import Archive, describe, shapes_after, warnings
from nnunet_volf.pretext.catalogue import METHODS

SIDE = st.integers(1, 700)
STEP = st.sampled_from([0.3, 0.5, 0.75, 0.9765625, 1.0, 1.1, 1.5, 2.5, 3.0, 5.0]) | st.floats(0.05, 10.0)
VOLF = METHODS["volf"]
ORDERS = st.permutations([0, 1, 2])


def planned(
    spacing: list[float],
    patch: list[int] | None = None,
    order: list[int] | None = None,
    scheme: str = "ZScore",
    reader: str = "SimpleITKIO",
    turned: bool = False,
) -> PlannedDataset:
    configuration = {
        "spacing": spacing,
        "patch_size": patch or [16] * len(spacing),
        "batch_size": 3,
        "normalization_schemes": [f"{scheme}Normalization", "ZScoreNormalization"],
        "architecture": {
            "network_class_name": "some.where.PlainConvUNet",
            "arch_kwargs": {"features_per_stage": [32, 64, 320, 320]},
        },
        "volf": {"epochs": 10, "iterations": 200, "turned": turned},
        "volf_mae": {"epochs": 10, "iterations": 200},
    }
    statistics = {str(number): {"percentile_00_5": -960.0, "percentile_99_5": 300.0} for number in range(2)}
    return PlannedDataset(
        "Dataset501_Archive",
        Path(),
        {
            "image_reader_writer": reader,
            "transpose_forward": order or [0, 1, 2],
            "foreground_intensity_properties_per_channel": statistics,
            "configurations": {"x": configuration},
        },
    )


def archive(
    cases: int = 40,
    shape: tuple[int, ...] = (20, 30, 40),
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    median: float = 40.0,
) -> Archive:
    tissue = [[[-900.0, median, 250.0], [0.0, 5000.0, 9000.0]]]
    return Archive(np.array([shape] * cases), np.array([spacing] * cases), np.array(tissue * cases), ("LPS",) * cases)


def changed(made: Archive, count: int, **fields: Any) -> Archive:
    """Give the first so many cases other numbers."""
    copies = {name: getattr(made, name).copy() for name in ("shapes", "spacings", "tissue")}
    for name, value in fields.items():
        copies[name][:count] = value
    return replace(made, **copies)


# ---------------------------------------------------------------------------------------- what preprocessing leaves


@given(st.tuples(SIDE, SIDE, SIDE), st.tuples(STEP, STEP, STEP), st.tuples(STEP, STEP, STEP), ORDERS)
def test_shapes_are_those_that_nnunet_resamples_to(
    shape: tuple[int, ...], spacing: tuple[float, ...], target: tuple[float, ...], order: list[int]
) -> None:
    found = shapes_after(archive(1, shape, spacing), planned(list(target), order=order), "x")
    expected = compute_new_shape([shape[axis] for axis in order], [spacing[axis] for axis in order], target)
    assert found.tolist() == [[max(1, int(side)) for side in expected]]


@given(st.tuples(SIDE, SIDE, SIDE), st.tuples(STEP, STEP, STEP), st.tuples(STEP, STEP), ORDERS)
def test_a_2d_plan_leaves_the_number_of_slices(
    shape: tuple[int, ...], spacing: tuple[float, ...], target: tuple[float, ...], order: list[int]
) -> None:
    found = shapes_after(archive(1, shape, spacing), planned(list(target), order=order), "x")
    own = [spacing[axis] for axis in order]
    expected = compute_new_shape([shape[axis] for axis in order], own, [own[0], *target])
    assert found.tolist() == [[max(1, int(side)) for side in expected]]


# ------------------------------------------------------------------------------------------------------- warnings


def test_what_fits_is_not_warned_of() -> None:
    assert warnings(archive(20), planned([1.0, 1.0, 1.0], scheme="CT"), "x", VOLF) == []


@pytest.mark.parametrize(("cases", "told"), [(1, 1), (19, 1), (20, 0)])
def test_fewer_than_twenty_cases_are_few(cases: int, told: int) -> None:
    found = warnings(archive(cases), planned([1.0, 1.0, 1.0]), "x", VOLF)
    assert found == [f"only {cases} cases: pretraining lives on many"] * told


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (1.0, None),
        (1.5, None),  # the limit itself is allowed
        (1.52, "the archive's median is 1.52 mm and the plan resamples to 1 mm; the archive is 1.5 times coarser"),
        (4.0, "the archive's median is 4 mm and the plan resamples to 1 mm; the archive is 4.0 times coarser"),
        (0.67, None),
        (0.5, "the archive's median is 0.5 mm and the plan resamples to 1 mm; the archive is 2.0 times finer"),
    ],
)
def test_resampling_by_more_than_a_half_is_told_axis_by_axis(own: float, text: str | None) -> None:
    found = warnings(archive(spacing=(1.0, own, 1.0), shape=(99, 99, 99)), planned([1.0, 1.0, 1.0]), "x", VOLF)
    assert len(found) == (text is not None)
    if text is not None:
        assert found[0].startswith(f"spacing along axis y: {text}: ")


def test_axes_are_named_as_in_the_archive_whatever_the_plan_does_with_them() -> None:
    made = archive(spacing=(5.0, 1.0, 1.0), shape=(99, 99, 99))
    (found,) = warnings(made, planned([1.0, 5.0, 1.0], order=[1, 2, 0]), "x", VOLF)[:1]
    assert found.startswith("spacing along axis x: the archive's median is 1 mm and the plan resamples to 5 mm")
    assert len(warnings(made, planned([1.0, 1.0, 5.0], order=[1, 2, 0]), "x", VOLF)) == 0
    assert len(warnings(made, planned([1.0, 1.0]), "x", VOLF)) == 0, "2D does not resample between slices"


def test_the_share_of_cases_much_smaller_than_the_patch_is_told_after_resampling() -> None:
    made = changed(archive(40, (20, 30, 40)), 10, shapes=(20, 30, 27))
    assert warnings(made, planned([1.0, 1.0, 1.0], [20, 30, 38]), "x", VOLF) == []
    expected = (
        "25% of the cases are much smaller than the patch (20, 30, 40) along some axis (less than 0.7 of it); their "
        "crops are stretched to it"
    )
    assert warnings(made, planned([1.0, 1.0, 1.0], [20, 30, 40]), "x", VOLF) == [expected]
    assert warnings(made, planned([1.0, 1.0, 0.9], [20, 30, 42]), "x", VOLF) == []
    assert warnings(made, planned([1.0, 1.0], [30, 40]), "x", VOLF) == [expected.replace("(20, 30, 40)", "(30, 40)")]


@pytest.mark.parametrize(
    ("median", "cases", "told"), [(-970.0, 2, 0), (-970.0, 3, 1), (310.0, 3, 1), (-955.0, 40, 0), (295.0, 40, 0)]
)
def test_tissue_beyond_the_limits_of_a_ct_plan_is_told_from_more_than_a_twentieth_of_the_cases_on(
    median: float, cases: int, told: int
) -> None:
    made = archive()
    made.tissue[:cases, 0, 1] = median
    found = warnings(made, planned([1.0, 1.0, 1.0], scheme="CT"), "x", VOLF)
    assert len(found) == told
    if told:
        assert found[0].startswith(
            "channel 0: the plan clips to -960 ... 300, and in 8% of the cases half of all tissue"
        )
        assert "the archive's median tissue is 40" in found[0]
    assert warnings(made, planned([1.0, 1.0, 1.0]), "x", VOLF) == [], "z-scores know no unit"


@pytest.mark.parametrize(
    ("orientations", "told"),
    [
        ({"LPS": 100}, None),
        ({"LPS": 60, "RAS": 40}, None),  # turned about an axis, none is a mirror image of another
        ({"LPS": 99, "RAI": 1}, None),  # one in a hundred does no harm
        ({"RAI": 90, "LPS": 10}, "90 cases are stored RAI and 10 cases LPS, which is the same on its head"),
        ({"SRP": 50, "ILA": 50}, "50 cases are stored SRP and 50 cases ILA, which is the same on its head"),
    ],
)
def test_scans_on_their_head_are_told_where_the_foreground_is_turned(
    orientations: dict[str, int], told: str | None
) -> None:
    made = replace(archive(100), orientations=tuple(code for code, n in orientations.items() for _ in range(n)))
    found = warnings(made, planned([1.0, 1.0, 1.0], turned=True), "x", VOLF)
    assert [line.partition(":")[0] for line in found] == ([told] if told else [])
    assert warnings(made, planned([1.0, 1.0, 1.0]), "x", VOLF) == [], "not turned"
    assert warnings(made, planned([1.0, 1.0, 1.0], turned=True), "x", METHODS["mae"]) == [], "another pretext"
    if told:
        assert warnings(made, planned([1.0, 1.0], turned=True), "x", VOLF) == [], "slices stand alike"
    reordered = planned([1.0, 1.0, 1.0], turned=True, reader="NibabelIOWithReorient")
    assert warnings(made, reordered, "x", VOLF) == [], "nnU-Net brings them into one order"


def test_slices_on_their_head_are_told_for_a_plan_of_slices() -> None:
    made = replace(archive(4), orientations=("LPS", "LPS", "LPS", "RAS"))
    told = "3 cases are stored LPS and 1 cases RAS, which is the same on its head"
    (axial,) = (line for line in warnings(made, planned([1.0, 1.0], turned=True), "x", VOLF) if "stored" in line)
    assert axial.startswith(told)
    sagittal = warnings(made, planned([1.0, 1.0], order=[2, 0, 1], turned=True), "x", VOLF)
    assert not any("stored" in line for line in sagittal)


def test_the_worst_comes_first() -> None:
    made = archive(3, (8, 8, 8), (4.0, 1.0, 1.0), median=5000.0)
    found = warnings(made, planned([1.0, 1.0, 1.0], [64, 64, 64], scheme="CT"), "x", VOLF)
    assert [line.split(" ")[0] for line in found] == ["only", "channel", "spacing", "100%"]


# -------------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize(("pretext", "crops"), [("volf", 300), ("mae", 150)])
def test_the_table_says_what_the_plan_means(pretext: str, crops: int) -> None:
    made = planned([2.0, 1.0, 0.8], [16, 32, 48], scheme="CT")
    rows = dict(describe(archive(40, (20, 30, 40)), made, "x", METHODS[pretext]))
    assert rows == {
        "cases": "40, (10, 30, 50) voxels in the median once resampled",
        "spacing": "2 x 1 x 0.8 mm",
        "patch": "(16, 32, 48) voxels, 32 x 32 x 38 mm; 3 of them a step",
        "normalisation": "CT, ZScore",
        "network": "PlainConvUNet, 4 stages, 32 to 320 features",
        "training": "10 epochs of 200 steps = 2,000 steps",
        "crops": f"about {crops} of each case over the whole training",
    }


def test_the_numbers_come_from_the_manifest(tmp_path: Path) -> None:
    facts = {"shape": [1, 2, 3], "spacing": [1.5, 1, 1], "orientation": "LPS", "dtype": "int16", "content": "0"}
    measured = {"minimum": 0, "maximum": 9, "mean": 9.0, "std": 1, "tissue": 0.5}
    percentiles = {"percentile_00_5": 1.0, "median": 2.0, "percentile_99_5": 3.0}
    channels = [{**facts, **measured, **percentiles} for _ in range(2)]
    lines = [
        {"case": f"case_{n}", "content": f"{n:032x}", "shape": [n, 2, 3], "spacing": [1.5, 1, 1], "channels": channels}
        for n in (4, 5)
    ]
    (tmp_path / "import").mkdir()
    (tmp_path / "import" / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    read = Archive.read(tmp_path)
    assert len(read) == 2
    assert read.shapes.tolist() == [[4, 2, 3], [5, 2, 3]]
    assert read.spacings.tolist() == [[1.5, 1, 1]] * 2
    assert read.tissue.tolist() == [[[1.0, 2.0, 3.0]] * 2] * 2
    assert read.orientations == ("LPS", "LPS")
