"""Reading volumes: the same voxels and grid as SimpleITK and nibabel give, and a refusal for each fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import archives
import nibabel
import numpy as np
import pytest
import SimpleITK

from nnunet_volf.preprocessing.checks import audit
from nnunet_volf.preprocessing.grids import REFUSED_BY_SIMPLEITK
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.preprocessing.volumes import FORMATS, ending_of, peek, read_volume

GOOD = {file.name: file for file in archives.good_files()}
FAULTS = {fault.name: fault for fault in archives.faults()}
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


def written(folder: Path, file: archives.Good | archives.Fault) -> Path:
    path = folder / f"{file.name}{file.ending}"
    file.write(path)
    return path


def by_simpleitk(path: Path) -> tuple[Any, SimpleITK.Image]:
    image = SimpleITK.ReadImage(str(path))
    return SimpleITK.GetArrayFromImage(image), image


# ------------------------------------------------------------------------------------------------ good files


@pytest.mark.parametrize("name", [name for name in GOOD if name != "slightly_sheared"])
def test_a_good_file_reads_as_simpleitk_reads_it(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, GOOD[name])
    volume = read_volume(path)
    voxels, image = by_simpleitk(path)
    assert volume.voxels.dtype == voxels.dtype
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.spacing == image.GetSpacing()
    assert volume.origin == image.GetOrigin()
    np.testing.assert_allclose(volume.direction, image.GetDirection(), atol=1e-6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_number_type_of_every_format_is_read(kind: str, ending: str, packed: bool, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 100, size=(4, 5, 6)).astype(kind)
    path = tmp_path / f"image{ending}"
    archives.write_itk(path, voxels, packed=packed)
    read = read_volume(path).voxels
    assert read.dtype == voxels.dtype
    np.testing.assert_array_equal(read, voxels)


@pytest.mark.parametrize("kind", [">i2", ">f4", ">u4", ">f8"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_big_endian_nifti_is_read(kind: str, ending: str, tmp_path: Path) -> None:
    voxels = archives.body().astype(kind)
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(voxels.T, archives.affine(), header, dtype=voxels.dtype), tmp_path / f"x{ending}")
    assert (tmp_path / "x.nii").exists() is False or (tmp_path / "x.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    read = read_volume(tmp_path / f"x{ending}").voxels
    assert read.dtype == voxels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, voxels)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("big.mha", "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nDimSize = 4 3 2\n"
                    "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"),
        ("big.nrrd", "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nencoding: raw\nendian: big\n\n"),
    ],
)  # fmt: skip
def test_big_endian_text_headers_are_read(name: str, header: str, tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    (tmp_path / name).write_bytes(header.encode() + voxels.tobytes())
    np.testing.assert_array_equal(read_volume(tmp_path / name).voxels, voxels)


@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8"])
@pytest.mark.parametrize(
    ("slope", "intercept"), [(0.5, 10.0), (1.0, -1024.0), (0.0, 5.0), (np.nan, np.nan), (0.1, 0.0)]
)
def test_the_slope_of_a_nifti_counts_as_in_simpleitk(kind: str, slope: float, intercept: float, tmp_path: Path) -> None:
    path = tmp_path / "scaled.nii"
    archives.write_nifti(path, archives.body().astype(kind))
    archives.patch(path, 112, "f", slope, intercept)
    voxels, _ = by_simpleitk(path)
    read = read_volume(path).voxels
    assert read.dtype == voxels.dtype
    np.testing.assert_array_equal(read, voxels)


def test_the_slope_of_a_nifti_counts_as_in_nibabel(tmp_path: Path) -> None:
    path = tmp_path / "scaled.nii"
    archives.write_nifti(path, archives.body())
    archives.patch(path, 112, "f", 0.3, -7.0)
    np.testing.assert_allclose(read_volume(path).voxels, nibabel.load(path).get_fdata().T, rtol=1e-6)


def test_nifti_of_version_2_is_read(tmp_path: Path) -> None:
    image = nibabel.Nifti2Image(archives.body().T, archives.affine())
    nibabel.save(image, tmp_path / "two.nii.gz")
    volume = read_volume(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(volume.voxels, archives.body())
    assert volume.spacing == archives.SPACING
    assert volume.direction == (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    assert volume.notes == (REFUSED_BY_SIMPLEITK,)


def test_a_stream_of_several_members_with_bytes_after_it_is_read(tmp_path: Path) -> None:
    import gzip

    archives.write_nifti(tmp_path / "plain.nii", archives.body())
    content = (tmp_path / "plain.nii").read_bytes()
    path = tmp_path / "members.nii.gz"
    path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]) + bytes(100))
    np.testing.assert_array_equal(read_volume(path).voxels, archives.body())


def test_a_plain_nifti_under_the_name_of_a_packed_one_is_read(tmp_path: Path) -> None:
    archives.write_nifti(tmp_path / "plain.nii", archives.body())
    path = (tmp_path / "plain.nii").rename(tmp_path / "plain.nii.gz")
    np.testing.assert_array_equal(read_volume(path).voxels, archives.body())


def test_an_ascii_metaimage_is_left_to_simpleitk(tmp_path: Path) -> None:
    path = tmp_path / "text.mha"
    numbers = " ".join(map(str, range(24)))
    path.write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = False\nDimSize = 4 3 2\nElementType = MET_SHORT\n"
        f"ElementDataFile = LOCAL\n{numbers}\n"
    )
    np.testing.assert_array_equal(read_volume(path).voxels.ravel(), np.arange(24))


def test_keys_that_itk_copies_from_other_headers_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "image.mha"
    archives.write_itk(path, archives.body())
    content = path.read_bytes()
    path.write_bytes(content.replace(b"DimSize", "0008|103e = Übersicht\nComment =\nDimSize".encode(), 1))
    np.testing.assert_array_equal(read_volume(path).voxels, archives.body())


# ------------------------------------------------------------------------------------------- axes and time


def test_nearly_perpendicular_axes_are_put_straight_and_noted(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD["slightly_sheared"])
    with pytest.raises(RuntimeError, match="orthonormal"):
        by_simpleitk(path)
    volume = read_volume(path)
    straight = np.reshape(volume.direction, (3, 3))
    np.testing.assert_allclose(straight @ straight.T, np.eye(3), atol=1e-12)
    image = nibabel.load(path)
    np.testing.assert_allclose(volume.spacing, image.header.get_zooms(), rtol=1e-4)
    np.testing.assert_array_equal(volume.voxels, np.asarray(image.dataobj).T)
    # nibabel's axes in ITK's convention, of which each is off by half of the 1.15 degrees.
    lps = np.diag([-1, -1, 1]) @ image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    off = np.degrees(np.arccos(np.clip((lps * straight).sum(axis=0), -1, 1)))
    np.testing.assert_allclose(off, [0.573, 0.573, 0], atol=1e-3)
    assert volume.notes == (REFUSED_BY_SIMPLEITK, "axes were 1.15 degrees from perpendicular and were put straight")


def test_the_nearest_straight_axes_are_found(tmp_path: Path) -> None:
    """No small turn of the result comes nearer to the axes in the file."""
    path = written(tmp_path, GOOD["slightly_sheared"])
    straight = np.reshape(read_volume(path).direction, (3, 3))
    columns = np.diag([-1, -1, 1]) @ nibabel.load(path).affine[:3, :3]
    columns /= np.linalg.norm(columns, axis=0)
    nearest = np.linalg.norm(straight - columns)
    for axis in range(3):
        for angle in (-1e-3, 1e-3):
            turn = np.eye(3)
            i, j = (axis + 1) % 3, (axis + 2) % 3
            turn[i, i] = turn[j, j] = np.cos(angle)
            turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
            assert np.linalg.norm(turn @ straight - columns) > nearest


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0)])
def test_units_of_a_sheared_nifti_count_as_those_of_a_straight_one(unit: str, factor: float, tmp_path: Path) -> None:
    for name, shear in (("straight", 0.0), ("sheared", 0.02)):
        matrix = archives.affine()
        matrix[0, 1] = shear
        image = nibabel.Nifti1Image(archives.body().T, matrix)
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / f"{name}.nii")
    straight, sheared = (read_volume(tmp_path / f"{name}.nii").spacing for name in ("straight", "sheared"))
    np.testing.assert_allclose(straight, np.multiply(archives.SPACING, factor), rtol=1e-6)
    np.testing.assert_allclose(sheared, straight, rtol=1e-3)


def test_what_is_done_with_time_is_chosen_by_name(tmp_path: Path) -> None:
    series = np.stack([archives.body(seed) for seed in range(3)])
    path = tmp_path / "series.nii.gz"
    archives.write_nifti(path, series)
    with pytest.raises(Refused, match="4 dimensions \\(20 x 18 x 16 x 3\\)") as refused:
        read_volume(path)
    assert refused.value.kind == "dimensions"
    first, mean = read_volume(path, "first"), read_volume(path, "mean")
    np.testing.assert_array_equal(first.voxels, series[0])
    np.testing.assert_allclose(mean.voxels, series.mean(axis=0), rtol=1e-5)
    assert first.voxels.dtype == np.int16
    assert mean.voxels.dtype == np.float32
    assert first.notes == ("3 volumes in one file; the first was taken",)
    assert mean.notes == ("3 volumes in one file; their mean was taken",)
    assert first.spacing == archives.SPACING
    assert first.reduced
    assert mean.reduced
    with pytest.raises(ValueError, match="time is 'last'"):
        read_volume(path, "last")


@pytest.mark.parametrize("time", ["first", "mean", "refuse"])
def test_an_empty_fourth_axis_is_dropped_and_noted(time: str, tmp_path: Path) -> None:
    volume = read_volume(written(tmp_path, GOOD["one_volume_in_time"]), time)
    assert volume.voxels.shape == archives.SHAPE
    assert volume.voxels.dtype == np.int16
    assert not volume.reduced
    assert volume.notes == ("empty axes after the third were dropped: the file has the shape [20, 18, 16, 1]",)


def test_series_over_time_in_other_formats_are_told_from_colours(tmp_path: Path) -> None:
    series = np.stack([archives.body(seed) for seed in range(3)])
    for ending in (".nrrd", ".mha"):
        path = tmp_path / f"series{ending}"
        joined = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(volume) for volume in series])
        SimpleITK.WriteImage(joined, str(path))
        with pytest.raises(Refused) as refused:
            read_volume(path)
        assert refused.value.kind == "dimensions"
        np.testing.assert_array_equal(read_volume(path, "first").voxels, series[0])


# -------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("name", list(FAULTS))
def test_each_fault_is_refused_with_its_kind_and_without_a_sound(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fault = FAULTS[name]
    path = written(tmp_path, fault)
    capfd.readouterr()
    with pytest.raises(Refused) as refused:
        audit(read_volume(path))
    assert refused.value.kind == fault.kind
    assert capfd.readouterr() == ("", "")
    for part in (refused.value.reason, refused.value.advice):
        assert part.endswith(".")
        assert str(tmp_path) not in part


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_a_flipped_bit_in_packed_voxels_never_passes(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    voxels = np.cumsum(rng.integers(-3, 4, size=(20, 20, 20)), axis=0).astype(np.int16)
    path = tmp_path / f"image{ending}"
    archives.write_itk(path, voxels)
    content = path.read_bytes()
    refusals = 0
    for _ in range(40):
        damaged = bytearray(content)
        damaged[int(rng.integers(len(content) // 2, len(content) - 12))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read = read_volume(path).voxels
        except Refused:
            refusals += 1
        else:  # the flipped bit chose another copy of the same numbers
            np.testing.assert_array_equal(read, voxels)
    assert refusals > 35
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", list(FORMATS))
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_anywhere_is_refused(ending: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"image{ending}"
    archives.write_itk(path, archives.body(), packed=packed)
    (largest,) = sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_size)[-1:]
    content = largest.read_bytes()
    for length in [*range(0, len(content), len(content) // 40), len(content) - 1]:
        largest.write_bytes(content[:length])
        with pytest.raises(Refused) as refused:
            read_volume(path)
        assert refused.value.kind in ("truncated", "unreadable", "empty")


def test_a_header_that_promises_far_too_much_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.mha"
    path.write_bytes(
        b"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nDimSize = 60000 60000 60000\n"
        b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + bytes(100)
    )
    with pytest.raises(Refused, match="promises 432000000000000 bytes of voxels; 100 are there"):
        read_volume(path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be opened \\(FileNotFoundError\\)"):
        read_volume(tmp_path / "absent.nii")


def test_a_truncated_file_is_told_in_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, FAULTS["truncated_plain_nifti"])
    found = path.stat().st_size - 352
    with pytest.raises(Refused, match=f"The header promises 11520 bytes of voxels; {found} are there."):
        read_volume(path)


# --------------------------------------------------------------------------------------- endings and headers


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("A.NII.GZ", ".nii.gz"),
        ("b.v2.nii", ".nii"),
        ("c.Mha", ".mha"),
        ("d.gz", ""),
        ("e.dcm", ""),
        ("f", ""),
        ("nii", ""),
        (".nii.gz", ""),
        ("g.hdr", ""),
    ],
)
def test_endings_are_told_in_lower_case(name: str, ending: str) -> None:
    assert ending_of(name) == ending
    assert ending_of(Path("folder.nii") / name) == ending


@pytest.mark.parametrize("name", list(GOOD))
def test_a_peek_tells_what_reading_tells(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, GOOD[name])
    volume = read_volume(path)
    monkeypatch.setattr("nnunet_volf.preprocessing.voxel_bytes.VoxelBytes.read", None)
    assert peek(path) == (volume.voxels.shape, volume.spacing[::-1])
