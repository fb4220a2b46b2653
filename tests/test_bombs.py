"""Files that promise or unpack to far more than they are: refused before memory is taken."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import dicoms
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from archives import affine, body, write_itk, write_nifti
from corpus import compress_by_gdcm
from malicious import archive
from pretrained_files import written
from pydicom.uid import DeflatedExplicitVRLittleEndian
from weights_opening import problem

from nnunet_volf.documents import read_document, read_text
from nnunet_volf.errors import DataError, SettingsError, WeightsError
from nnunet_volf.limits import DOCUMENT, IMAGE
from nnunet_volf.preprocessing import sizes
from nnunet_volf.preprocessing.dicom_codestreams import stated_size
from nnunet_volf.preprocessing.dicom_deflated import check_unpacked
from nnunet_volf.preprocessing.dicom_headers import read_header
from nnunet_volf.preprocessing.dicom_pixels import read_frames
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.preprocessing.volumes import read_volume
from nnunet_volf.weights.dialects import read_pretrained


def refused(path: Path) -> Refused:
    with pytest.raises(Refused) as raised:
        read_volume(path)
    return raised.value


def nifti_bomb(path: Path, side: int) -> Path:
    """A packed NIfTI of that many voxels a side, all of them zero, a few kilobytes long."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((side, side, side))
    header.set_sform(affine(), code=1)
    header["vox_offset"] = 352
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header.binaryblock + bytes(4))
        file.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize("side", [1200, 4000])
def test_a_header_that_promises_what_its_file_cannot_hold_is_cut_off(tmp_path: Path, side: int) -> None:
    refusal = refused(nifti_bomb(tmp_path / "a.nii.gz", side))
    assert refusal.kind == "truncated"
    assert f"promises {2 * side**3} bytes" in refusal.reason


def test_what_packs_as_no_scan_does_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "ALWAYS_READ", 10**6)
    path = tmp_path / "a.nii.gz"
    write_nifti(path, np.zeros((120, 120, 120), np.int16))
    refusal = refused(path)
    assert refusal.kind == "too-large"
    assert "packed more than 200 times, it is no scan" in refusal.reason


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "text.nrrd"])
def test_a_limit_of_the_users_holds_for_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    if name == "text.nrrd":
        voxels = body()
        text = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 20 18 16\nencoding: ascii\n\n{voxels.ravel().tolist()}"
        path.write_text(text.replace("[", "").replace("]", "").replace(",", ""), encoding="ascii")
    else:
        (write_nifti if ".nii" in name else write_itk)(path, body())
    read_volume(path)
    monkeypatch.setenv(IMAGE.variable, "0.000001")
    refusal = refused(path)
    assert (refusal.kind, refusal.reason) == (
        "too-large", "Its header promises 0.0 GB of voxels; images may have 1e-06 GB."
    )  # fmt: skip
    assert f"set {IMAGE.variable}=1 (in gigabytes) and run again with --retry" in refusal.advice
    monkeypatch.setenv(IMAGE.variable, "1")
    read_volume(path)


def test_an_image_larger_than_the_free_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "available_memory", lambda: 10_000)
    write_nifti(tmp_path / "a.nii", body())
    refusal = refused(tmp_path / "a.nii")
    assert refusal.kind == "too-large"
    assert "0.0 GB of memory are free" in refusal.reason


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(IMAGE.variable, text)
    with pytest.raises(SettingsError, match=f"{IMAGE.variable} is '{text}'; it is a number of gigabytes above 0"):
        IMAGE.bytes()


def test_a_text_header_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    for name, start in (("a.nrrd", b"NRRD0004\n"), ("a.mha", b"ObjectType = Image\n")):
        (tmp_path / name).write_bytes(start + b"# nothing\n" * 200_000)
        assert "has no end within 1,048,576 bytes" in refused(tmp_path / name).reason


def test_a_long_line_never_reaches_itk_which_overruns_its_memory(tmp_path: Path) -> None:
    write_itk(tmp_path / "a.nrrd", body())
    content = (tmp_path / "a.nrrd").read_bytes()
    for line in (b"kinds: ", b"space: ", b"data file: ", b"nonsense ", b"a: b:=", b"thicknesses: "):
        (tmp_path / "b.nrrd").write_bytes(content.replace(b"\n\n", b"\n" + line + b"a" * 5000 + b"\n\n", 1))
        assert refused(tmp_path / "b.nrrd").reason == "A line of its header has more than 500 bytes."
    (tmp_path / "b.nrrd").write_bytes(
        content.replace(b"\n\n", b"\nkey:=" + b"a" * 5000 + b"\n# " + b"a" * 5000 + b"\n\n", 1)
    )
    assert np.array_equal(read_volume(tmp_path / "b.nrrd").voxels, body())


# DICOM.


def deflated(path: Path, extra: bytes) -> Path:
    (first, *_) = dicoms.write_series(path.parent / "series", dicoms.phantom())
    dataset = pydicom.dcmread(first)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(dataset.PixelData) + extra
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_deflated_file_is_unpacked_in_small_pieces_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = deflated(tmp_path / "a.dcm", bytes(3 << 20))
    assert read_header(path).rows == 12
    monkeypatch.setattr("nnunet_volf.preprocessing.dicom_deflated.ALWAYS_READ", 10**6)
    monkeypatch.setattr(sizes, "ALWAYS_READ", 10**6)
    with pytest.raises(Refused) as raised:
        check_unpacked(path)
    assert raised.value.kind == "too-large"
    with pytest.raises(Refused) as raised:
        read_header(path)
    assert raised.value.kind == "too-large"


def test_a_deflated_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = deflated(tmp_path / "a.dcm", b"")
    content = path.read_bytes()
    path.write_bytes(content[:400] + bytes(200) + content[600:])
    with pytest.raises(Refused):
        read_header(path)


def jpeg(rows: int, columns: int, marker: int) -> bytes:
    start = b"\xff\xd8\xff\xe0\x00\x04ab\xff" + bytes([marker])
    return start + struct.pack(">HBHH", 11, 8, rows, columns) + bytes(10)


def jpeg_2000(rows: int, columns: int) -> bytes:
    return b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 41, 0, columns + 3, rows + 5, 3, 5) + bytes(30)


@pytest.mark.parametrize("frame", [*(jpeg(30, 40, marker) for marker in (0xC0, 0xC3, 0xF7)), jpeg_2000(30, 40)])
def test_the_size_that_a_frame_states_is_known(frame: bytes) -> None:
    assert stated_size(frame) == (30, 40)
    for end in range(len(frame) - 10):
        stated_size(frame[:end])


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc4\x00\x04ab\xff\xd9", bytes(100), b"\xff\xd8\xff\xff"]
)
def test_other_frames_state_none(frame: bytes) -> None:
    assert stated_size(frame) is None


def test_a_frame_of_another_size_than_its_header_says_is_not_decoded(tmp_path: Path) -> None:
    (path, *_) = dicoms.write_series(tmp_path, dicoms.phantom((8, 24, 20)))
    compress_by_gdcm(path)
    assert next(read_frames(str(path), [0])).shape == (24, 20)
    content = path.read_bytes()
    place = content.index(b"\xff\x4f\xff\x51") + 8
    path.write_bytes(content[:place] + struct.pack(">II", 60_000, 60_000) + content[place + 8 :])
    with pytest.raises(Refused, match="A compressed slice has 60000 x 60000 pixels; its header says 24 x 20"):
        next(read_frames(str(path), [0]))


# Lists and descriptions.


def test_a_list_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3]", encoding="utf-8")
    assert read_document(path) == [1, 2, 3]
    monkeypatch.setenv(DOCUMENT.variable, "0.000000005")
    with pytest.raises(DataError, match=f"If it is truly that large, set {DOCUMENT.variable}=1"):
        read_document(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "holds lists in lists, many hundred deep"),
        (b"1" * 5000, "holds a number of thousands of digits"),
        (b'{"a": }', r"is not valid JSON \(Expecting value, line 1\)"),
        (b"\xff\xfe[\x00", "is not text in UTF-8"),
    ],
)
def test_documents_that_cannot_be_read_say_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_document(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(raised.value)


def test_a_folder_or_nothing_is_no_document(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_text(tmp_path / "a")


# Weights.


def test_an_archive_whose_records_overlap_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pth", b"\x80\x02}.", {"data/0": bytes(10**5)})
    with zipfile.ZipFile(path, "a") as file:
        (record,) = (info for info in file.infolist() if info.filename.endswith("data/0"))
        for number in range(1, 50):  # each is told to lie where the first one lies
            other = zipfile.ZipInfo(f"weights/data/{number}")
            other.file_size = other.compress_size = record.file_size
            other.header_offset, other.CRC = record.header_offset, record.CRC
            file.filelist.append(other)
            file.NameToInfo[other.filename] = other
        file._didModify = True
    assert "bytes that promise" in problem(path)


def test_a_packed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("weights/data.pkl", b"\x80\x02}.")
        file.writestr("weights/data/0", bytes(10**7))
    assert "torch does not compress" in problem(path)


def folded(depth: int) -> Any:
    content: Any = [0] * 10
    for _ in range(depth):
        content = [content] * 10
    return content


def test_lists_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"w": torch.ones(1), "x": folded(12)})
    assert path.stat().st_size < 10_000
    assert "more than 5,000,000 values when its lists are followed to their ends" in problem(path)


def test_a_number_of_a_million_digits_is_refused(tmp_path: Path) -> None:
    assert "a number of 80001 bits" in problem(written(tmp_path / "a.pth", {"w": torch.ones(1), "x": 1 << 80_000}))


def test_tensors_that_share_their_memory_too_often_are_refused(tmp_path: Path) -> None:
    memory = torch.ones(10_000)
    few = written(tmp_path / "a.pth", {f"layer{n}.weight": memory[n:] for n in range(10)})
    assert len(read_pretrained(few).tensors) == 10
    many = written(tmp_path / "b.pth", {f"layer{n}.weight": memory[n:] for n in range(200)})
    with pytest.raises(WeightsError, match="which share their memory more than 16 times"):
        read_pretrained(many)


def test_zlib_is_as_tight_as_the_bound_says() -> None:
    packed = zlib.compress(bytes(1 << 22), 9)
    assert (1 << 22) / len(packed) < 1032
