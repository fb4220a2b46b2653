"""Stored values of DICOM frames, before any scaling: read by pydicom, or by GDCM where that has the decoder.

GDCM reads each compressed frame from a file of its own that holds nothing but pixels. Left to read the series itself,
it would scale all frames like the first one, and round them to the first one's type.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, RLELossless, SecondaryCaptureImageStorage

from .dicom_codestreams import stated_size
from .dicom_deflated import check_unpacked
from .dicom_headers import quiet_pydicom
from .grids import silence
from .refusals import Refused

_FORMAT_TAGS = [
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
]  # fmt: skip
_MORE_TAGS = ["PhotometricInterpretation", "NumberOfFrames", "PixelData"]
_NO_UID = UID("2.25.1")  # a UID is mandatory in the file that GDCM is given; this one is of no image

_TRUNCATED = "Copy or export the series again; the other files of the series may be whole."


def read_frames(path: str, numbers: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yield the stored values (rows, columns) of some frames of a file, in rising order of their numbers."""
    with _explained(path):
        check_unpacked(Path(path))
        dataset = pydicom.dcmread(path, specific_tags=[*_FORMAT_TAGS, *_MORE_TAGS])
        if "PixelData" not in dataset:
            raise Refused("truncated", "A file ends within its pixels, or has none.", _TRUNCATED)
        encoding = dataset.file_meta.TransferSyntaxUID
        # GDCM takes four times as long over RLE as pydicom, and refuses frames of about 100 pixels and less.
        native = not encoding.is_encapsulated or encoding == RLELossless
        frames = (_by_pydicom if native else _by_gdcm)(dataset, set(numbers))
    for _ in range(len(set(numbers))):
        with _explained(path):
            frame = next(frames)
        yield frame


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn what decoders raise into a refusal; some of their messages quote the header, and are not repeated."""
    try:
        with quiet_pydicom():
            yield
    except (Refused, MemoryError):
        raise
    except Exception as error:
        raise Refused(
            "unreadable",
            f"The pixels of a slice cannot be decoded ({type(error).__name__}; {_encoding(path)}).",
            "Copy or export the series again, uncompressed if possible.",
        ) from None


def _by_pydicom(dataset: Dataset, numbers: set[int]) -> Iterator[NDArray[Any]]:
    count = int(dataset.get("NumberOfFrames") or 1)
    expected = dataset.Rows * dataset.Columns * count * dataset.BitsAllocated // 8
    encoding = dataset.file_meta.TransferSyntaxUID
    if not encoding.is_encapsulated and len(dataset.PixelData) < expected:
        raise Refused(
            "truncated", f"A file holds {len(dataset.PixelData)} bytes of pixels instead of {expected}.", _TRUNCATED
        )
    for frame, _ in get_decoder(encoding).iter_array(dataset, indices=sorted(numbers), raw=True):
        yield frame


def _by_gdcm(dataset: Dataset, numbers: set[int]) -> Iterator[NDArray[Any]]:
    count = int(dataset.get("NumberOfFrames") or 1)
    with tempfile.TemporaryDirectory() as folder:
        number = -1
        for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=count)):
            if number in numbers:
                yield _decode(dataset, frame, Path(folder) / "frame.dcm")
    raise Refused("truncated", f"A file holds {number + 1} frames instead of {count}.", _TRUNCATED)


def _decode(dataset: Dataset, frame: bytes, path: Path) -> NDArray[Any]:
    size = stated_size(frame)
    if size is not None and size != (dataset.Rows, dataset.Columns):
        raise Refused(
            "unreadable",
            f"A compressed slice has {size[0]} x {size[1]} pixels; its header says {dataset.Rows} x {dataset.Columns}.",
            "Export the series again, uncompressed if possible.",
        )
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    alone.file_meta.MediaStorageSOPInstanceUID = _NO_UID
    alone.SOPClassUID = SecondaryCaptureImageStorage
    alone.SOPInstanceUID = _NO_UID
    for tag in _FORMAT_TAGS:
        setattr(alone, tag, dataset[tag].value)
    alone.PhotometricInterpretation = "MONOCHROME2"  # stored values are wanted, whatever they mean
    alone.PixelData = encapsulate([frame])
    alone["PixelData"].VR = "OB"
    alone.save_as(path, enforce_file_format=True)
    with silence():
        voxels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO"))
    if voxels.shape != (1, dataset.Rows, dataset.Columns):
        raise Refused(
            "unreadable",
            f"A slice was decoded to {voxels.shape} instead of (1, {dataset.Rows}, {dataset.Columns}).",
            "Export the series again, uncompressed if possible.",
        )
    return np.asarray(voxels[0])


def _encoding(path: str) -> str:
    """Name how a file is encoded, if DICOM has a name for it."""
    try:
        with quiet_pydicom():
            uid = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows"]).file_meta.TransferSyntaxUID
        return str(uid.name) if uid.type == "Transfer Syntax" else "an unknown transfer syntax"
    except Exception:
        return "an unknown transfer syntax"
