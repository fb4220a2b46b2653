"""Which slices belong together, and which stacks are no volumes."""

from __future__ import annotations

import random
from pathlib import Path

import dicoms
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from nnunet_volf.errors import SettingsError
from nnunet_volf.preprocessing.dicom_headers import read_header
from nnunet_volf.preprocessing.dicom_series import DicomPolicy, Series, group_series
from nnunet_volf.preprocessing.refusals import Refused

DEFAULT = DicomPolicy()


def grouped(folder: Path, policy: DicomPolicy = DEFAULT) -> tuple[list[Series], list[tuple[Series, Refused]]]:
    return group_series([read_header(path) for path in sorted(folder.rglob("*.dcm"))], policy)


def kinds(left_out: list[tuple[Series, Refused]]) -> dict[str, int]:
    """Return the kinds of refusal, with how many slices each has cost."""
    return {refused.kind: len(series.slices) for series, refused in left_out}


def test_a_series_is_one_stack_in_order_along_its_normal(tmp_path: Path) -> None:
    paths = dicoms.write_series(tmp_path, dicoms.phantom())
    (series,), left_out = grouped(tmp_path)
    assert series.paths == tuple(str(path) for path in paths)
    assert left_out == []


def test_the_order_of_files_and_their_neighbours_change_neither_keys_nor_slices(tmp_path: Path) -> None:
    for i in range(3):
        dicoms.write_series(tmp_path / str(i), dicoms.phantom(seed=i))
    dicoms.write_time_series(tmp_path / "t", [dicoms.phantom(seed=i) for i in (3, 4)], "AcquisitionNumber", [1, 2])
    headers = [read_header(path) for path in sorted(tmp_path.rglob("*.dcm"))]
    expected, _ = group_series(headers, DicomPolicy())
    for seed in range(5):
        shuffled = random.Random(seed).sample(headers, len(headers))
        assert group_series(shuffled, DicomPolicy())[0] == expected
    alone, _ = group_series([h for h in headers if f"{tmp_path}/1/" in Path(h.path).as_posix()], DicomPolicy())
    assert alone[0].key in {series.key for series in expected}
    assert len({series.key for series in expected}) == 5


def test_series_of_one_study_share_it(tmp_path: Path) -> None:
    study = generate_uid()
    for name in ("t1", "t2"):
        dicoms.write_series(tmp_path / name, dicoms.phantom(), study_uid=study)
    (a, b), _ = grouped(tmp_path)
    assert a.study == b.study
    assert a.key != b.key


def test_a_scout_that_shares_the_uid_is_split_off(tmp_path: Path) -> None:
    uid, study = generate_uid(), generate_uid()
    stack = dicoms.write_series(tmp_path, dicoms.phantom(), series_uid=uid, study_uid=study)
    scout = {"series_uid": uid, "study_uid": study, "name": "scout", "orientation": dicoms.CORONAL}
    dicoms.write_series(tmp_path, dicoms.phantom((1, 12, 10)), **scout)
    (series,), left_out = grouped(tmp_path)
    assert series.paths == tuple(str(path) for path in stack)
    assert kinds(left_out) == {"one-slice": 1}


@pytest.mark.parametrize(
    "other",
    [
        {"tags": {"EchoTime": 20.0}},
        {"tags": {"EchoNumbers": 2}},
        {"image_type": ("ORIGINAL", "PRIMARY", "P")},
        {"spacing": (0.8, 0.7, 3.0)},
        {"orientation": dicoms.CORONAL},
        {"shape": (8, 10, 12)},
    ],
    ids=["echo time", "echo number", "phase", "pixel spacing", "orientation", "size"],
)
def test_slices_that_differ_do_not_share_a_stack_though_they_share_a_uid(other: dict, tmp_path: Path) -> None:
    uid, study = generate_uid(), generate_uid()
    same = {"series_uid": uid, "study_uid": study}
    other = dict(other)
    voxels = dicoms.phantom(other.pop("shape", (8, 12, 10)), seed=1)
    dicoms.write_series(tmp_path, dicoms.phantom(), tags={"EchoTime": 10.0, "EchoNumbers": 1}, **same)
    tags = {"EchoTime": 10.0, "EchoNumbers": 1, **other.pop("tags", {})}
    dicoms.write_series(tmp_path, voxels, name="other", tags=tags, **same, **other)
    series, left_out = grouped(tmp_path)
    assert [len({Path(path).name[0] for path in one.paths}) for one in series] == [1, 1]
    assert [len(one.slices) for one in series] == [8, 8]
    assert left_out == []


def test_rounding_in_headers_does_not_split_a_stack(tmp_path: Path) -> None:
    noise = [
        {"ImageOrientationPatient": [1, round(1e-6 * i, 9), 0, 0, 1, 0], "EchoTime": 10 + 0.004 * i} for i in range(8)
    ]
    dicoms.write_series(tmp_path, dicoms.phantom(), tags_of_slice=noise)
    (series,), left_out = grouped(tmp_path)
    assert len(series.slices) == 8
    assert left_out == []


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("TemporalPositionIdentifier", [1, 2, 3]),
        ("AcquisitionNumber", [1, 2, 3]),
        ("DiffusionBValue", [0.0, 500.0, 1000.0]),
        ("TriggerTime", [0.0, 33.5, 67.0]),
        ("DiffusionGradientOrientation", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], None]),
    ],
)
def test_volumes_at_the_same_place_are_told_apart(tag: str, values: list, tmp_path: Path) -> None:
    volumes = [dicoms.phantom(seed=i) for i in range(3)]
    tags = [{} if value is None else {tag: value} for value in values]
    uid, study = generate_uid(), generate_uid()
    for i, (voxels, extra) in enumerate(zip(volumes, tags, strict=True)):
        dicoms.write_series(tmp_path, voxels, series_uid=uid, study_uid=study, name=f"{i}_", tags=extra)
    series, left_out = grouped(tmp_path)
    assert [len(one.slices) for one in series] == [8, 8, 8]
    assert {tuple(sorted({Path(path).name[0] for path in one.paths})) for one in series} == {("0",), ("1",), ("2",)}
    assert len({one.key for one in series}) == 3
    assert left_out == []


def test_diffusion_is_split_by_b_value_and_then_by_direction(tmp_path: Path) -> None:
    uid, study = generate_uid(), generate_uid()
    for i, tags in enumerate(
        [
            {"DiffusionBValue": 0.0},
            {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": [1.0, 0.0, 0.0]},
            {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": [0.0, 1.0, 0.0]},
        ]
    ):
        dicoms.write_series(tmp_path, dicoms.phantom(), series_uid=uid, study_uid=study, name=f"{i}_", tags=tags)
    assert [len(one.slices) for one in grouped(tmp_path)[0]] == [8, 8, 8]


def test_a_number_that_counts_single_slices_does_not_shatter_a_stack_with_a_copy_in_it(tmp_path: Path) -> None:
    each = [{"AcquisitionNumber": i + 1} for i in range(8)]
    paths = dicoms.write_series(tmp_path, dicoms.phantom(), tags_of_slice=each)
    (tmp_path / "copy.dcm").write_bytes(paths[3].read_bytes())
    (series,), _ = grouped(tmp_path)
    assert len(series.slices) == 9


def test_frames_of_an_enhanced_object_are_split_like_files(tmp_path: Path) -> None:
    at = np.concatenate([dicoms.positions(6)] * 2)
    groups = [{"FrameContentSequence": {"TemporalPositionIndex": 1 + i // 6}} for i in range(12)]
    dicoms.write_enhanced(tmp_path / "all.dcm", dicoms.phantom((12, 5, 4)), at=at, groups_of_frame=groups)
    series, _ = grouped(tmp_path)
    assert [[one.frame.number for one in each.slices] for each in series] == [[*range(6)], [*range(6, 12)]]


def write_left_out(folder: Path) -> dict[str, int]:
    """Write one of everything that is no volume, and return the kinds with the number of slices."""
    localizer, mip = ("ORIGINAL", "PRIMARY", "LOCALIZER"), ("DERIVED", "SECONDARY", "MIP")
    dicoms.write_series(folder / "localizer", dicoms.phantom((7, 4, 5)), image_type=localizer)
    dicoms.write_series(folder / "mip", dicoms.phantom((6, 4, 5)), image_type=mip)
    dicoms.write_series(folder / "few", dicoms.phantom((4, 4, 5)))
    dicoms.write_structures(folder / "structures.dcm")
    dicoms.write_colour(folder / "colour" / "colour.dcm")
    dicoms.write_film(folder / "film.dcm", dicoms.phantom((9, 4, 5)))
    return {"localizer": 7, "derived": 6, "one-slice": 4, "no-pixels": 1, "colour": 1, "dimensions": 1}


def test_what_is_no_volume_is_left_out_by_name_and_costs_nothing_else(tmp_path: Path) -> None:
    expected = write_left_out(tmp_path)
    dicoms.write_series(tmp_path / "good", dicoms.phantom())
    (series,), left_out = grouped(tmp_path)
    assert len(series.slices) == 8
    assert kinds(left_out) == expected
    for what, refused in left_out:
        assert refused.reason
        assert refused.advice
        assert str(what) == what.key


def test_mosaics_are_left_out_as_one(tmp_path: Path) -> None:
    each = [{"AcquisitionNumber": i + 1} for i in range(12)]
    at = dicoms.positions(12, spacing=0.0)
    mosaic = ("ORIGINAL", "PRIMARY", "M", "MOSAIC")
    dicoms.write_series(tmp_path, dicoms.phantom((12, 4, 5)), image_type=mosaic, at=at, tags_of_slice=each)
    series, ((what, refused),) = grouped(tmp_path)
    assert (series, refused.kind, len(what.slices)) == ([], "dimensions", 12)
    assert "dcm2niix" in refused.advice


def test_a_localizer_of_three_planes_is_left_out_as_one(tmp_path: Path) -> None:
    uid, study = generate_uid(), generate_uid()
    planes = (dicoms.AXIAL, dicoms.CORONAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    for i, orientation in enumerate(planes):
        same = {"series_uid": uid, "study_uid": study, "name": f"{i}_", "tags": {"SeriesDescription": "Survey"}}
        dicoms.write_series(tmp_path, dicoms.phantom((6, 4, 5)), orientation=orientation, **same)
    assert kinds(grouped(tmp_path)[1]) == {"localizer": 18}


def test_projections_and_secondary_captures_are_taken_on_request(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path / "a", dicoms.phantom(), image_type=("DERIVED", "SECONDARY", "MPR"))
    dicoms.write_series(tmp_path / "b", dicoms.phantom(), modality="SC")
    series, left_out = grouped(tmp_path)
    assert (len(series), [refused.kind for _, refused in left_out]) == (0, ["derived", "derived"])
    series, left_out = grouped(tmp_path, DicomPolicy(derived=True))
    assert (len(series), left_out) == (2, [])


def test_derived_alone_does_not_leave_a_series_out(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom(), image_type=("DERIVED", "SECONDARY", "AXIAL"))
    assert len(grouped(tmp_path)[0]) == 1


def test_the_least_number_of_slices_is_the_users(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom((3, 4, 5)))
    _, ((_, refused),) = grouped(tmp_path)
    assert refused.reason == "3 slice position(s) of 5 x 4 pixels; at least 5 are asked for."
    assert len(grouped(tmp_path, DicomPolicy(least_slices=3))[0]) == 1


def test_copies_of_slices_do_not_make_a_volume(tmp_path: Path) -> None:
    paths = dicoms.write_series(tmp_path, dicoms.phantom((2, 4, 5)))
    for i in range(5):
        (tmp_path / f"copy{i}.dcm").write_bytes(paths[0].read_bytes())
    assert kinds(grouped(tmp_path)[1]) == {"one-slice": 7}


def test_no_refusal_and_no_key_says_who_was_scanned(tmp_path: Path) -> None:
    write_left_out(tmp_path)
    dicoms.write_series(tmp_path / "good", dicoms.phantom())
    series, left_out = grouped(tmp_path)
    uids = {value for path in tmp_path.rglob("*.dcm") for value in _uids(path)}
    said = [str(one) for one in series] + [f"{what} {refused}" for what, refused in left_out]
    for secret in (*dicoms.SECRETS.values(), *uids):
        assert not any(secret in text for text in said)


def _uids(path: Path) -> list[str]:
    dataset = pydicom.dcmread(path)
    return [str(dataset.SeriesInstanceUID), str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)]


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"geometry is 'bend', but it is one of refuse, resample\."):
        DicomPolicy(geometry="bend")
    with pytest.raises(SettingsError, match="least_slices is 1"):
        DicomPolicy(least_slices=1)
