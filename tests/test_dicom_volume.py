"""Volumes out of DICOM series: the voxels, the grid, and the faults that a wrong grid would come from."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import dicoms
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian

from nnunet_volf.preprocessing.dicom_headers import read_header
from nnunet_volf.preprocessing.dicom_series import DicomPolicy, group_series
from nnunet_volf.preprocessing.dicom_volume import load_series
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.preprocessing.volumes import Volume

REFUSE = DicomPolicy()
RESAMPLE = DicomPolicy(geometry="resample")
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)  # two unit vectors at a right angle


def load(folder: Path, policy: DicomPolicy = REFUSE) -> Volume:
    """Load the only series below a folder."""
    (series,), _ = group_series([read_header(path) for path in sorted(folder.rglob("*.dcm"))], policy)
    return load_series(series, policy)


def refusal(folder: Path, policy: DicomPolicy = REFUSE) -> Refused:
    with pytest.raises(Refused) as refused:
        load(folder, policy)
    return refused.value


def points(volume: Volume) -> NDArray[np.float64]:
    """Return where each voxel lies in the patient: (z, y, x, 3)."""
    z, y, x = np.indices(volume.voxels.shape)
    steps = np.stack([x, y, z], axis=-1) * np.array(volume.spacing)
    return np.array(volume.origin) + steps @ np.array(volume.direction).reshape(3, 3).T


# What lies where: a ramp along an oblique direction, which linear interpolation keeps exactly, and an ellipsoid.


def ramp(at: NDArray[np.float64]) -> NDArray[np.float64]:
    return at @ np.array([3.0, -2.0, 5.0]) + 100.0


def ellipsoid(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each place that lies in an ellipsoid with a soft edge, times 1000."""
    radius = np.linalg.norm((at - np.array([-8.0, -16.0, 58.0])) / np.array([9.0, 10.0, 14.0]), axis=-1)
    return 1000 / (1 + np.exp((radius - 1) / 0.1))


def sampled(
    shape: tuple[int, ...], at: NDArray[np.float64], spacing: tuple[float, ...], what: Any
) -> NDArray[np.int16]:
    """Return the stored values of slices at given positions of axial pixels."""
    y, x = np.indices(shape)
    offsets = np.stack([x * spacing[0], y * spacing[1], np.zeros(shape)], axis=-1)
    return np.stack([np.rint(what(position + offsets)) for position in at]).astype(np.int16)


@pytest.mark.parametrize("orientation", [dicoms.AXIAL, dicoms.CORONAL, OBLIQUE])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8])
def test_a_regular_series_is_what_simpleitk_makes_of_it(
    orientation: tuple[float, ...], dtype: type, tmp_path: Path
) -> None:
    voxels = (dicoms.phantom() % 256).astype(dtype)
    dicoms.write_series(tmp_path, voxels, orientation=orientation)
    volume = load(tmp_path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.voxels, SimpleITK.GetArrayFromImage(image))
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(volume.origin, image.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(volume.direction, image.GetDirection(), atol=1e-9)
    assert volume.notes == ()


def test_slices_written_top_down_come_out_bottom_up(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom(), at=dicoms.positions(8)[::-1])
    volume = load(tmp_path)
    np.testing.assert_array_equal(volume.voxels, dicoms.phantom()[::-1])
    assert volume.origin == (-20.0, -30.0, 40.0)


def test_each_slice_is_scaled_by_its_own_slope_in_float(tmp_path: Path) -> None:
    voxels = (dicoms.phantom((8, 12, 10)).astype(np.int32) * 60).astype(np.uint16)
    slopes = [1.0, *np.linspace(0.000123456, 3.7, 7)]  # the first alone would make integers
    intercepts = np.linspace(-5, 5, 8)
    dicoms.write_series(tmp_path, voxels, modality="PT", slopes=slopes, intercepts=intercepts)
    volume = load(tmp_path)
    expected = [v.astype(np.float64) * s + i for v, s, i in zip(voxels, slopes, intercepts, strict=True)]
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-6)


def test_hounsfield_units_stay_whole_numbers(tmp_path: Path) -> None:
    voxels = dicoms.phantom().astype(np.uint16) * 4
    dicoms.write_series(tmp_path, voxels, modality="CT", slopes=[1.0] * 8, intercepts=[-1024.0] * 8)
    volume = load(tmp_path)
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, voxels.astype(np.int32) - 1024)


@pytest.mark.parametrize("where", [0, 4, 7])
def test_whole_numbers_beyond_16_bits_are_kept(where: int, tmp_path: Path) -> None:
    voxels = dicoms.phantom().astype(np.uint16)
    voxels[where, 0, 0] = 65535
    dicoms.write_series(tmp_path, voxels)
    volume = load(tmp_path)
    assert volume.voxels.dtype == np.int32
    np.testing.assert_array_equal(volume.voxels, voxels)


@pytest.mark.parametrize(("modality", "inverted"), [("MR", True), ("CT", False)])
def test_dark_as_large_is_inverted_unless_values_are_measured(modality: str, inverted: bool, tmp_path: Path) -> None:
    voxels = dicoms.phantom() + 30000
    tags = {"PhotometricInterpretation": "MONOCHROME1"}
    dicoms.write_series(tmp_path, voxels, modality=modality, tags=tags)
    volume = load(tmp_path)
    expected = 30000 + 30959 - voxels.astype(np.int32) if inverted else voxels
    np.testing.assert_array_equal(volume.voxels, expected)
    assert bool(volume.notes) == inverted


@pytest.mark.parametrize(("slope", "words"), [("0", "slope of 0"), ("nan", "slope of nan")])
def test_a_slope_that_cannot_be_is_refused(slope: str, words: str, tmp_path: Path) -> None:
    path = dicoms.write_series(tmp_path, dicoms.phantom(), slopes=[7.0] * 8)[3]
    content = path.read_bytes()
    assert content.count(b"DS\x02\x007.") + content.count(b"DS\x04\x007.0 ") == 1
    path.write_bytes(content.replace(b"DS\x04\x007.0 ", b"DS\x04\x00" + slope.ljust(4).encode()))
    refused = refusal(tmp_path)
    assert (refused.kind, words in refused.reason) == ("unreadable", True)


# Slices missing, at the wrong place, or there twice.


def test_missing_slices_are_refused_with_how_many(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom((12, 6, 5)), missing=[3, 7, 8])
    refused = refusal(tmp_path)
    assert refused.kind == "missing-slices"
    assert refused.reason == "3 of 12 slices 3 mm apart are missing; the widest gap is 9 mm."
    assert "--geometry resample" in refused.advice


def test_uneven_slices_are_refused_with_how_far_off(tmp_path: Path) -> None:
    at = dicoms.positions(8)
    at[3, 2] += 1.2
    dicoms.write_series(tmp_path, dicoms.phantom(), at=at)
    refused = refusal(tmp_path)
    assert refused.kind == "uneven-slices"
    assert refused.reason.startswith("8 slices are 1.8 to 4.2 mm apart")


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path: Path) -> None:
    at = np.round(dicoms.positions(200, spacing=0.625), 1)
    assert len({round(v, 6) for v in np.diff(at[:, 2])}) == 2  # 0.6 and 0.7
    dicoms.write_series(tmp_path, dicoms.phantom((200, 4, 3)), at=at)
    assert load(tmp_path).spacing[2] == pytest.approx(0.625, abs=1e-3)


def test_copies_of_a_slice_are_taken_once_and_said(tmp_path: Path) -> None:
    paths = dicoms.write_series(tmp_path, dicoms.phantom())
    for i in (2, 5):
        (tmp_path / f"copy{i}.dcm").write_bytes(paths[i].read_bytes())
    volume = load(tmp_path)
    np.testing.assert_array_equal(volume.voxels, dicoms.phantom())
    assert volume.notes == ("2 slice(s) were there twice, with the same pixels, and taken once.",)


@pytest.mark.parametrize("policy", [REFUSE, RESAMPLE])
def test_different_slices_at_one_place_are_refused(policy: DicomPolicy, tmp_path: Path) -> None:
    paths = dicoms.write_series(tmp_path, dicoms.phantom())
    dataset = pydicom.dcmread(paths[2])
    pixels = bytearray(dataset.PixelData)
    pixels[0] ^= 1
    dataset.PixelData = bytes(pixels)
    dataset.save_as(tmp_path / "other.dcm")
    refused = refusal(tmp_path, policy)
    assert refused.kind == "duplicate-slices"
    assert "6 mm from the first slice; 9 slices share 8 positions" in refused.reason


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_whatever_slice_is_moved_or_lost_never_passes_as_even(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("series")
    at = dicoms.positions(9, spacing=data.draw(st.floats(0.5, 10)))
    lost = data.draw(st.integers(1, 7))
    step = at[1, 2] - at[0, 2]
    if data.draw(st.booleans()):
        dicoms.write_series(folder, dicoms.phantom((9, 3, 3)), at=at, missing=[lost])
        assert refusal(folder).kind == "missing-slices"
    else:
        at[lost, 2] += step * data.draw(st.floats(0.2, 0.8)) * data.draw(st.sampled_from([-1, 1]))
        dicoms.write_series(folder, dicoms.phantom((9, 3, 3)), at=at)
        assert refusal(folder).kind == "uneven-slices"


def test_tilted_slices_are_refused_by_their_positions_alone(tmp_path: Path) -> None:
    at = dicoms.positions(8, shear=(0.0, 3.0 * np.tan(np.radians(15))))
    dicoms.write_series(tmp_path, dicoms.phantom(), at=at, tags={"GantryDetectorTilt": 0})
    refused = refusal(tmp_path)
    assert refused.kind == "tilted"
    assert "5.63 mm along y (tilted by 15 degrees)" in refused.reason


def test_a_tag_that_claims_a_tilt_does_not_make_one(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom(), tags={"GantryDetectorTilt": 20})
    assert load(tmp_path).notes == ()


def test_axes_that_are_not_perpendicular_are_refused(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom(), orientation=(1, 0, 0, 0.1, 0.99, 0))
    assert refusal(tmp_path).kind == "direction"


# Resampling, checked against what is known to lie where.


@pytest.mark.parametrize(("what", "tolerance"), [(ramp, 1.0), (ellipsoid, 60.0)])
@pytest.mark.parametrize("fault", ["missing", "uneven", "tilted", "tilted and missing", "jittered"])
def test_resampling_puts_values_where_they_belong(fault: str, what: Any, tolerance: float, tmp_path: Path) -> None:
    spacing, shape = (0.7, 0.8, 1.5), (40, 36)
    shear = (0.2, -0.45) if "tilted" in fault else (0.0, 0.0)
    at = dicoms.positions(24, spacing[2], shear=shear)
    generator = np.random.default_rng(0)
    if fault == "uneven":
        at[:, 2] += generator.uniform(-0.5, 0.5, 24)
    if fault == "jittered":
        at[1:, :2] += generator.uniform(-2, 2, (23, 2))
    voxels = sampled(shape, at, spacing, what)
    dicoms.write_series(tmp_path, voxels, spacing=spacing, at=at, missing=[5, 11, 12] if "missing" in fault else [])
    assert refusal(tmp_path).kind in ("missing-slices", "uneven-slices", "tilted")
    volume = load(tmp_path, RESAMPLE)
    inside = volume.voxels > volume.voxels.min()
    error = np.abs(volume.voxels - what(points(volume)))[inside]
    assert error.size > 0.4 * voxels.size
    assert error.max() <= tolerance
    assert len(volume.voxels) == pytest.approx(24, abs=1)
    assert any("interpolated" in note for note in volume.notes)


def test_the_note_on_resampling_states_numbers(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom((12, 6, 5)), missing=[3, 7, 8])
    assert load(tmp_path, RESAMPLE).notes == (
        "9 slices with gaps of up to 9 mm were interpolated onto 12 slices 3 mm apart.",
    )


def test_slices_that_are_there_are_not_changed_by_filling_in_others(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom((12, 6, 5)), missing=[3])
    volume = load(tmp_path, RESAMPLE)
    kept = [i for i in range(12) if i != 3]
    np.testing.assert_array_equal(volume.voxels[kept], dicoms.phantom((12, 6, 5))[kept])
    between = dicoms.phantom((12, 6, 5))[[2, 4]].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(volume.voxels[3], between, rtol=1e-6)


def test_shearing_back_by_whole_pixels_changes_no_value(tmp_path: Path) -> None:
    at = dicoms.positions(8, shear=(1.6, -0.9))  # two pixels along x, one against y
    dicoms.write_series(tmp_path, dicoms.phantom() + 1, at=at)
    volume = load(tmp_path, RESAMPLE)
    assert volume.voxels.shape == (8, 12 + 7, 10 + 14)
    assert volume.origin == pytest.approx((-20.0, -30.0 - 7 * 0.9, 40.0))
    for i, plane in enumerate(volume.voxels):
        row, column = 7 - i, 2 * i
        np.testing.assert_array_equal(plane[row : row + 12, column : column + 10], dicoms.phantom()[i] + 1)
        assert np.count_nonzero(plane != 1) == np.count_nonzero(dicoms.phantom()[i] + 1 != 1)


def test_filling_in_a_slice_of_a_sheared_stack_takes_nothing_from_the_others(tmp_path: Path) -> None:
    at = dicoms.positions(8, shear=(1.6, 0.0))
    dicoms.write_series(tmp_path, dicoms.phantom() + 1, at=at, missing=[3])
    volume = load(tmp_path, RESAMPLE)
    assert volume.voxels.shape == (8, 12, 10 + 14)
    for i in (0, 1, 2, 4, 5, 6, 7):
        np.testing.assert_array_equal(volume.voxels[i][:, 2 * i : 2 * i + 10], dicoms.phantom()[i] + 1)


def test_a_gap_too_wide_to_interpolate_is_refused_all_the_same(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom((12, 6, 5)), missing=[4, 5, 6, 7])
    refused = refusal(tmp_path, RESAMPLE)
    assert refused.kind == "missing-slices"
    assert "15 mm between slices 3 mm apart is too wide to interpolate (at most 3 slices" in refused.reason


def test_a_regular_series_is_not_resampled(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom())
    volume = load(tmp_path, RESAMPLE)
    assert (volume.voxels.dtype, volume.notes) == (np.int16, ())


# Encodings, and files that end too early.


def test_compressed_series_are_read(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path, dicoms.phantom() - 300, rle=True, slopes=[1.0] * 8, intercepts=[-7.0] * 8)
    np.testing.assert_array_equal(load(tmp_path).voxels, dicoms.phantom() - 307)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
    ],
)
def test_real_files_of_every_encoding_read_like_the_plain_one(name: str, plain: str, tmp_path: Path) -> None:
    volumes = []
    for file in (name, plain):
        folder = tmp_path / file
        folder.mkdir()
        _stack_of(file, folder)
        volumes.append(load(folder))
    assert volumes[0].voxels.shape == (5, 64, 64)
    np.testing.assert_array_equal(volumes[0].voxels, volumes[1].voxels)
    np.testing.assert_array_equal(volumes[0].voxels[2], pydicom.dcmread(_shipped(plain)).pixel_array)


@pytest.mark.parametrize("name", ["693_J2KI.dcm", "JPEG2000.dcm", "JPGExtended.dcm", "MR_small_RLE.dcm"])
def test_real_compressed_files_read_as_simpleitk_reads_them(name: str, tmp_path: Path) -> None:
    _stack_of(name, tmp_path)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(_shipped(name)))[0]
    for plane in load(tmp_path, DicomPolicy(derived=True)).voxels:
        np.testing.assert_array_equal(plane, expected)


def test_dark_as_large_is_inverted_once_when_compressed(tmp_path: Path) -> None:
    for path in _stack_of("MR_small_jpeg_ls_lossless.dcm", tmp_path):
        dataset = pydicom.dcmread(path)
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.save_as(path)
    plain = pydicom.dcmread(_shipped("MR_small.dcm")).pixel_array
    np.testing.assert_array_equal(load(tmp_path).voxels[0], int(plain.min()) + int(plain.max()) - plain)


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    paths = dicoms.write_series(tmp_path, dicoms.phantom())
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    np.testing.assert_array_equal(load(tmp_path).voxels, dicoms.phantom())


def test_lossless_jpeg_is_read(tmp_path: Path) -> None:
    voxels = dicoms.phantom().astype(np.uint16)
    image = SimpleITK.GetImageFromArray(voxels[:1])
    image.SetMetaData("0008|0060", "MR")
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(tmp_path / "gdcm.bin"))
    writer.Execute(image)
    compressed = pydicom.dcmread(tmp_path / "gdcm.bin")
    assert "JPEG Lossless" in compressed.file_meta.TransferSyntaxUID.name
    for path in dicoms.write_series(tmp_path, voxels):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
        dataset.PixelData = compressed.PixelData
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    for plane in load(tmp_path).voxels:
        np.testing.assert_array_equal(plane, voxels[0])


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_pixels_cut_off_are_refused(rle: bool, share: float, tmp_path: Path) -> None:
    paths = dicoms.write_series(tmp_path, dicoms.phantom((6, 64, 64)), rle=rle)
    dicoms.cut_off(paths[2], share)
    refused = refusal(tmp_path)
    assert (refused.kind, "Copy or export the series again" in refused.advice) == ("truncated", True)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm"]
)
def test_a_damaged_compressed_frame_is_refused(name: str, tmp_path: Path) -> None:
    paths = _stack_of(name, tmp_path)
    dataset = pydicom.dcmread(paths[3])
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(200)])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(paths[3])
    refused = refusal(tmp_path, DicomPolicy(derived=True))
    assert refused.kind == "unreadable"
    assert dataset.file_meta.TransferSyntaxUID.name in refused.reason
    assert str(dataset.PatientName) not in str(refused)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_damaged_byte_anywhere_is_read_or_refused_but_raises_nothing_else(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = dicoms.write_series(folder, dicoms.phantom((5, 3, 3)), rle=data.draw(st.booleans()), slopes=[2.0] * 5)[2]
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        where = 132 + data.draw(st.floats(0, 1)) * (len(content) - 133)  # a share, as UIDs differ in length
        content[int(where)] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        headers = [read_header(one) for one in folder.iterdir()]
        series, _ = group_series(headers, RESAMPLE)
        for one in series:
            load_series(one, RESAMPLE)
    except Refused as refused:
        said = str(refused)
    else:
        said = ""
    assert not any(secret in said for secret in dicoms.SECRETS.values())


def test_every_file_that_pydicom_ships_is_read_or_refused_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    kinds: Counter[str] = Counter()
    for path in sorted(Path(_shipped("CT_small.dcm")).parent.glob("*.dcm")):
        kinds.update(_what_becomes_of(path))
    assert {"colour", "no-pixels", "one-slice", "unreadable", "derived", "dimensions"} <= set(kinds)
    assert sum(kinds.values()) > 50
    assert caplog.records == []


def _what_becomes_of(path: Path) -> list[str]:
    try:
        series, left_out = group_series([read_header(path)], DicomPolicy(least_slices=2, derived=True))
        for one in series:
            load_series(one, REFUSE)
        return [refused.kind for _, refused in left_out]
    except Refused as refused:
        return [refused.kind]


# Objects of many frames.


@pytest.mark.parametrize("rle", [False, True])
def test_an_enhanced_object_is_a_volume_with_a_slope_for_each_frame(rle: bool, tmp_path: Path) -> None:
    slopes = np.linspace(0.5, 2, 8)
    at = np.random.default_rng(0).permutation(dicoms.positions(8))
    dicoms.write_enhanced(tmp_path / "all.dcm", dicoms.phantom(), at=at, slopes=slopes, rle=rle)
    volume = load(tmp_path)
    order = np.argsort(at[:, 2])
    expected = dicoms.phantom() * slopes[:, None, None]
    np.testing.assert_allclose(volume.voxels, expected[order], rtol=1e-6)
    assert volume.spacing == (0.8, 0.9, 3.0)
    assert volume.origin == (-20.0, -30.0, 40.0)


@pytest.mark.parametrize("rle", [False, True])
def test_an_enhanced_object_of_several_volumes_is_read_in_parts(rle: bool, tmp_path: Path) -> None:
    at = np.concatenate([dicoms.positions(6)] * 2)
    groups = [{"FrameContentSequence": {"TemporalPositionIndex": 1 + i // 6}} for i in range(12)]
    voxels = dicoms.phantom((12, 5, 4))
    path = dicoms.write_enhanced(tmp_path / "all.dcm", voxels, at=at, groups_of_frame=groups, rle=rle)
    series, _ = group_series([read_header(path)], REFUSE)
    for one, expected in zip(series, (voxels[:6], voxels[6:]), strict=True):
        np.testing.assert_array_equal(load_series(one, REFUSE).voxels, expected)


def test_an_enhanced_object_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    dicoms.cut_off(dicoms.write_enhanced(tmp_path / "all.dcm", dicoms.phantom((8, 64, 64))))
    assert refusal(tmp_path).kind == "truncated"


# What must not happen on the way.


def test_no_message_or_note_says_who_was_scanned(tmp_path: Path) -> None:
    dicoms.write_series(tmp_path / "a", dicoms.phantom((12, 6, 5)), missing=[3], image_type=("DERIVED", "SECONDARY"))
    at = dicoms.positions(8, shear=(1.0, 0.0))
    dicoms.write_series(tmp_path / "b", dicoms.phantom(), at=at)
    cut = dicoms.write_series(tmp_path / "c", dicoms.phantom())
    dicoms.cut_off(cut[0])
    said = [str(refusal(tmp_path / folder)) for folder in "abc"]
    said += [note for folder in "ab" for note in load(tmp_path / folder, RESAMPLE).notes]
    assert len(said) == 6
    for secret in dicoms.SECRETS.values():
        assert not any(secret in text for text in said)
    assert not any(str(tmp_path) in text for text in said)


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
def test_loading_takes_little_more_than_the_volume(rle: bool, enhanced: bool, tmp_path: Path) -> None:
    voxels = np.zeros((40, 160, 160), dtype=np.int16)
    if enhanced:
        dicoms.write_enhanced(tmp_path / "all.dcm", voxels, rle=rle)
    else:
        dicoms.write_series(tmp_path, voxels, rle=rle)
    tracemalloc.start()
    try:
        load(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.8 * voxels.nbytes


def _shipped(name: str) -> str:
    return str(get_testdata_file(name, download=False))


def _stack_of(name: str, folder: Path) -> list[Path]:
    """Write five copies of a file that comes with pydicom, one above the other."""
    dataset = pydicom.dcmread(_shipped(name))
    paths = []
    for i in range(5):
        dataset.ImagePositionPatient = [0, 0, 2 * i]
        dataset.ImageOrientationPatient = list(dicoms.AXIAL)
        dataset.PixelSpacing = [1, 1]
        paths.append(folder / f"{i}.dcm")
        dataset.save_as(paths[-1])
    return paths
