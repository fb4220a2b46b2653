"""The audit: what is refused, at which limit, and that the numbers told are true."""

from __future__ import annotations

import json
from typing import Any

import archives
import numpy as np
import pytest
from numpy.typing import NDArray

from nnunet_volf.preprocessing import checks
from nnunet_volf.preprocessing.checks import Facts, Limits, audit
from nnunet_volf.preprocessing.content import content_hash
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.preprocessing.volumes import Volume

SPACING = (0.5, 1.0, 2.0)


def body(shape: tuple[int, int, int] = (20, 30, 40), kind: Any = np.int16) -> NDArray[Any]:
    return archives.body(0, shape).astype(kind)


def refusal(voxels: NDArray[Any], spacing: tuple[float, float, float] = SPACING, **limits: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        audit(Volume(voxels, spacing), Limits(**limits))
    return refused.value


# ------------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64, np.uint16, ">f4"])
def test_the_facts_are_those_of_the_whole_volume_and_of_its_tissue(kind: Any) -> None:
    voxels = (body().astype(np.int32) + 1100).astype(kind)
    facts = audit(Volume(voxels, SPACING))
    tissue = voxels[voxels > 700].astype(np.float64)
    assert facts == Facts(
        shape=(20, 30, 40),
        spacing=(2.0, 1.0, 0.5),
        orientation="LPS",
        dtype=str(np.dtype(kind)),
        minimum=float(voxels.min()),
        maximum=float(voxels.max()),
        mean=pytest.approx(tissue.mean()),
        std=pytest.approx(tissue.std()),
        percentile_00_5=pytest.approx(np.percentile(tissue, 0.5)),
        median=pytest.approx(np.percentile(tissue, 50)),
        percentile_99_5=pytest.approx(np.percentile(tissue, 99.5)),
        tissue=pytest.approx(tissue.size / voxels.size),
        content=content_hash(Volume(voxels, SPACING)),
        notes=(),
    )


def test_the_facts_of_a_large_volume_come_from_a_sample_of_it() -> None:
    voxels = body((100, 130, 140))
    facts = audit(Volume(voxels, SPACING))
    tissue = voxels[voxels > -500].astype(np.float64)
    assert facts.mean == pytest.approx(tissue.mean(), abs=0.2)
    assert facts.std == pytest.approx(tissue.std(), rel=0.02)
    assert facts.percentile_99_5 == pytest.approx(np.percentile(tissue, 99.5), abs=1)
    assert facts.tissue == pytest.approx(tissue.size / voxels.size, rel=0.03)
    assert (facts.minimum, facts.maximum) == (voxels.min(), voxels.max())


def test_facts_are_plain_json() -> None:
    mapping = audit(Volume(body(), SPACING, notes=("a note",))).to_mapping()
    assert json.loads(json.dumps(mapping, allow_nan=False)) == mapping
    assert mapping["shape"] == [20, 30, 40]
    assert mapping["notes"] == ["a note"]


def test_left_handed_axes_are_noted_and_allowed() -> None:
    facts = audit(Volume(body(), SPACING, direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1), notes=("first",)))
    assert facts.notes == ("first", "axes are left-handed")
    assert facts.orientation == "RPS"


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_a_double_that_float32_cannot_hold_is_refused(value: float) -> None:
    voxels = body(kind=np.float64)
    voxels[19, 29, 39] = value
    found = refusal(voxels)
    assert found.kind == "non-finite"
    assert f"reach {abs(value):g}, which is infinite in float32" in found.reason


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("slab", [1, 1 << 22])
def test_voxels_that_are_not_finite_are_counted(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SLAB_VOXELS", slab)
    voxels = body(kind=np.float32)
    voxels[0, :3, 0] = np.nan
    voxels[-1, 0, :2] = np.inf
    voxels[5, 5, 5] = -np.inf
    found = refusal(voxels)
    assert found.kind == "non-finite"
    assert found.reason == "3 of 24000 voxels are NaN and 3 are infinite."


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (10, 15, 20), (19, 29, 39)])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_a_single_such_voxel_is_found_anywhere(value: float, place: tuple[int, ...], kind: Any) -> None:
    voxels = body(kind=kind)
    voxels[place] = value
    assert refusal(voxels).kind == "non-finite"


@pytest.mark.parametrize("value", [0, -1024, 7])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_constant_image_is_refused(value: int, kind: Any) -> None:
    found = refusal(np.full((20, 20, 20), value, kind))
    assert found.kind == "constant"
    assert found.reason == f"Every voxel is {value}."


def test_two_values_are_an_image() -> None:
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[19, 19, 19] = 0.5
    assert audit(Volume(voxels, SPACING)).maximum == 0.5


def test_a_segmentation_is_refused() -> None:
    voxels = np.zeros((20, 20, 20), np.uint8)
    voxels[5:15, 5:15, 5:15] = 2
    with pytest.raises(Refused, match="It looks like a segmentation: 2 different whole numbers"):
        audit(Volume(voxels, SPACING))


@pytest.mark.parametrize("axis", range(3))
def test_each_axis_needs_eight_voxels(axis: int) -> None:
    shape = [20, 20, 20]
    shape[axis] = 8
    audit(Volume(body((shape[0], shape[1], shape[2])), SPACING))
    shape[axis] = 7
    found = refusal(body((shape[0], shape[1], shape[2])))
    assert found.kind == "too-small"
    assert " x ".join(map(str, shape)) in found.reason
    assert "at least 8" in found.reason
    audit(Volume(body((shape[0], shape[1], shape[2])), SPACING), Limits(least_side=7))


@pytest.mark.parametrize(
    "spacing",
    [
        (0.0, 1.0, 1.0),
        (1.0, -1.0, 1.0),
        (1.0, 1.0, 0.0099),
        (31.0, 31.0, 31.0),
        (1.0, float("nan"), 1.0),
        (1.0, 1.0, float("inf")),
        (0.02, 0.02, 2.5),
        (0.0005, 0.0005, 0.001),
        (500.0, 500.0, 1000.0),
    ],
)
def test_an_absurd_spacing_is_refused(spacing: tuple[float, float, float]) -> None:
    found = refusal(body(), spacing)
    assert found.kind == "spacing"
    assert f"{spacing[0]:g} x {spacing[1]:g} x {spacing[2]:g} mm" in found.reason


@pytest.mark.parametrize("spacing", [(0.01, 0.01, 0.01), (30.0, 30.0, 30.0), (0.1, 0.1, 10.0), (0.05, 0.05, 5.0)])
def test_the_limits_of_spacing_themselves_are_allowed(spacing: tuple[float, float, float]) -> None:
    assert audit(Volume(body(), spacing)).spacing == spacing[::-1]


def test_limits_can_be_chosen() -> None:
    audit(Volume(body(), (0.001, 0.001, 0.001)), Limits(least_spacing=0.0001))
    audit(Volume(body(), (0.05, 0.05, 20.0)), Limits(most_anisotropy=1000))
    assert refusal(body(), (1.0, 1.0, 5.0), most_spacing=4.0).kind == "spacing"


def test_no_refusal_speaks_of_more_than_the_image() -> None:
    found = [
        refusal(np.zeros((20, 20, 20))),
        refusal(body((7, 20, 20))),
        refusal(body(), (0.0, 1.0, 1.0)),
        refusal(body(), (0.02, 0.02, 2.5)),
    ]
    for one in found:
        assert one.reason.endswith(".")
        assert one.advice.endswith(".")
        assert str(one) == f"{one.reason} {one.advice}"
