"""Synthetic DICOM series, whole or with every fault that archives are known for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)

# What must never leave a header. Each is put into every file that is written here.
SECRETS = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19610203",
    "StudyDate": "20190817",
    "StudyTime": "134509",
    "AcquisitionDate": "20190817",
    "AccessionNumber": "ACC998877",
    "InstitutionName": "General Hospital Springfield",
    "ReferringPhysicianName": "Hibbert^Julius",
    "StudyID": "ST-31337",
    "SeriesDescription": "Jane Doe t1 axial",
}

_SOP_CLASSES = {
    "MR": MRImageStorage,
    "CT": CTImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "SC": SecondaryCaptureImageStorage,
    "US": UltrasoundMultiFrameImageStorage,
}


def phantom(shape: Sequence[int] = (8, 12, 10), seed: int = 0) -> NDArray[np.int16]:
    """Return voxels (z, y, x) that differ everywhere."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape).astype(np.int16)


def positions(
    count: int,
    spacing: float = 3.0,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.0, -30.0, 40.0),
    shear: Sequence[float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Return where the first voxels of evenly spaced slices lie; `shear` is millimetres along x and y a slice."""
    x, y = np.array(orientation[:3]), np.array(orientation[3:])
    step = spacing * np.cross(x, y) + shear[0] * x + shear[1] * y
    return np.asarray(np.array(origin) + np.arange(count)[:, None] * step)


def write_series(
    folder: Path,
    voxels: NDArray[Any],
    *,
    spacing: Sequence[float] = (0.8, 0.9, 3.0),
    orientation: Sequence[float] = AXIAL,
    at: NDArray[np.float64] | None = None,
    missing: Sequence[int] = (),
    modality: str = "MR",
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "M"),
    slopes: Sequence[float] | None = None,
    intercepts: Sequence[float] | None = None,
    series_uid: str | None = None,
    study_uid: str | None = None,
    name: str = "slice",
    rle: bool = False,
    shuffled: bool = True,
    tags: Mapping[str, Any] | None = None,
    tags_of_slice: Sequence[Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write voxels (z, y, x) as one file a slice, and return the files in the order of the slices.

    Args:
        folder: made if it is not there
        voxels: stored values
        spacing: of x, y, z; z only places slices and is in no tag, SliceThickness is wrong on purpose
        orientation: directions of x and y
        at: positions of the slices, in place of even ones
        missing: slices that are not written
        modality: also sets the SOP class
        image_type: LOCALIZER among it makes a localizer
        slopes: rescale slope of each slice
        intercepts: rescale intercept of each slice
        series_uid: to add to an earlier series
        study_uid: likewise
        name: start of the files' names
        rle: compress
        shuffled: number the files in another order than the slices lie
        tags: more header elements, or others; None removes one
        tags_of_slice: likewise, for each slice
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(voxels)
    at = positions(count, spacing[2], orientation) if at is None else at
    series_uid, study_uid = series_uid or generate_uid(), study_uid or generate_uid()
    numbers = np.random.default_rng(1).permutation(count) if shuffled else np.arange(count)
    paths = []
    for i in range(count):
        if i in missing:
            continue
        dataset = _dataset(_SOP_CLASSES[modality], series_uid, study_uid)
        dataset.Modality = modality
        dataset.ImageType = list(image_type)
        dataset.ImagePositionPatient = [_decimal(v) for v in at[i]]
        dataset.ImageOrientationPatient = [_decimal(v) for v in orientation]
        dataset.PixelSpacing = [spacing[1], spacing[0]]
        dataset.SliceThickness = 1.23
        dataset.SpacingBetweenSlices = 4.56
        dataset.InstanceNumber = int(numbers[i]) + 1
        if slopes is not None or intercepts is not None:
            dataset.RescaleSlope = _decimal(slopes[i] if slopes is not None else 1)
            dataset.RescaleIntercept = _decimal(intercepts[i] if intercepts is not None else 0)
        _set_pixels(dataset, voxels[i])
        _set_tags(dataset, {**(tags or {}), **(tags_of_slice[i] if tags_of_slice else {})})
        if rle:
            dataset.compress(RLELossless, generate_instance_uid=False)
        paths.append(folder / f"{name}{numbers[i]:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_time_series(folder: Path, volumes: Sequence[NDArray[Any]], tag: str, values: Sequence[Any]) -> list[Path]:
    """Write volumes at the same positions into one series, told apart by the values of one tag."""
    series_uid, study_uid = generate_uid(), generate_uid()
    paths = []
    for i, (voxels, value) in enumerate(zip(volumes, values, strict=True)):
        paths += write_series(
            folder, voxels, series_uid=series_uid, study_uid=study_uid, name=f"volume{i}_", tags={tag: value}
        )
    return paths


def write_enhanced(
    path: Path,
    voxels: NDArray[Any],
    *,
    spacing: Sequence[float] = (0.8, 0.9, 3.0),
    orientation: Sequence[float] = AXIAL,
    at: NDArray[np.float64] | None = None,
    slopes: Sequence[float] | None = None,
    groups_of_frame: Sequence[Mapping[str, Mapping[str, Any]]] | None = None,
    rle: bool = False,
) -> Path:
    """Write voxels (z, y, x) as one enhanced MR object; orientation and pixel spacing are shared by its frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    at = positions(len(voxels), spacing[2], orientation) if at is None else at
    dataset = _dataset(EnhancedMRImageStorage, generate_uid(), generate_uid())
    dataset.Modality = "MR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber = 1
    _set_pixels(dataset, voxels)
    shared = Dataset()
    _add_group(shared, "PlaneOrientationSequence", {"ImageOrientationPatient": [_decimal(v) for v in orientation]})
    _add_group(shared, "PixelMeasuresSequence", {"PixelSpacing": [spacing[1], spacing[0]]})
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for i in range(len(voxels)):
        frame = Dataset()
        _add_group(frame, "PlanePositionSequence", {"ImagePositionPatient": [_decimal(v) for v in at[i]]})
        if slopes is not None:
            scaling = {"RescaleSlope": _decimal(slopes[i]), "RescaleIntercept": 0, "RescaleType": "US"}
            _add_group(frame, "PixelValueTransformationSequence", scaling)
        for sequence, attributes in (groups_of_frame[i] if groups_of_frame else {}).items():
            _add_group(frame, sequence, attributes)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    if rle:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_film(path: Path, frames: NDArray[Any]) -> Path:
    """Write an ultrasound film (t, y, x): several frames without positions."""
    dataset = _dataset(UltrasoundMultiFrameImageStorage, generate_uid(), generate_uid())
    dataset.Modality = "US"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    _set_pixels(dataset, frames)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_structures(path: Path, series_uid: str | None = None) -> Path:
    """Write an RT structure set, which holds contours and no image."""
    dataset = _dataset(RTStructureSetStorage, series_uid or generate_uid(), generate_uid())
    dataset.Modality = "RTSTRUCT"
    dataset.StructureSetLabel = "organs"
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_colour(path: Path) -> Path:
    """Write a coloured picture as it comes with a position."""
    (path,) = write_series(path.parent, phantom((1, 6, 5)), name=path.stem)
    dataset = pydicom.dcmread(path)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(6 * 5 * 3)
    dataset.save_as(path, enforce_file_format=True)
    return path


def cut_off(path: Path, share: float = 0.8) -> None:
    """Leave only the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _dataset(sop_class: str, series_uid: str, study_uid: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series_uid, study_uid
    _set_tags(dataset, SECRETS)
    return dataset


def _set_pixels(dataset: Dataset, voxels: NDArray[Any]) -> None:
    dataset.Rows, dataset.Columns = voxels.shape[-2:]
    if voxels.ndim == 3:
        dataset.NumberOfFrames = len(voxels)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * voxels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(voxels.dtype.kind == "i")
    dataset.PixelData = voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"


def _set_tags(dataset: Dataset, tags: Mapping[str, Any]) -> None:
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)


def _add_group(groups: Dataset, sequence: str, attributes: Mapping[str, Any]) -> None:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    setattr(groups, sequence, [item])


def _decimal(value: float) -> str:
    """Write a number within the 16 characters that DICOM allows for one."""
    return pydicom.valuerep.format_number_as_ds(float(value))
