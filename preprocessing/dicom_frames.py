"""Where a slice lies, how its values are scaled, and what tells it from another slice at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from pydicom.dataset import Dataset

_GE_COMPONENT = (0x0043, 0x102F)  # 0 magnitude, 1 phase, 2 real, 3 imaginary; GE's image type does not tell
_GE_B_VALUE = (0x0043, 0x1039)
_SIEMENS_B_VALUE = (0x0019, 0x100C)
_PHILIPS_B_VALUE = (0x2001, 0x1003)
_GE_B_OFFSET = 10**9  # GE adds this to the b-value when the gradients are balanced (dcm2niix, "nii_dicom.cpp")

FRAME_TAGS: list[Any] = [
    "ImageType", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
    "EchoNumbers", "EchoTime", "AcquisitionNumber", "TemporalPositionIdentifier", "TriggerTime", "DiffusionBValue",
    "DiffusionGradientOrientation", "InversionTime", "FrameReferenceTime", _GE_COMPONENT, _GE_B_VALUE,
    _SIEMENS_B_VALUE, _PHILIPS_B_VALUE, "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One slice: a whole file, or one frame of a file."""

    number: int = 0  # within the file
    position: tuple[float, ...] | None = None  # of the centre of the first voxel, in patient millimetres
    orientation: tuple[float, ...] | None = None  # directions of growing column index, then growing row index
    pixel_spacing: tuple[float, ...] | None = None  # between rows, between columns
    slope: float = 1.0
    intercept: float = 0.0
    contrast: str = ""  # hash of the image type, which says magnitude or phase, water or fat, ...
    echo: float | None = None
    echo_time: float | None = None
    temporal: float | None = None
    b_value: float | None = None
    gradient: tuple[float, ...] | None = None
    inversion_time: float | None = None
    trigger_time: float | None = None
    reference_time: float | None = None
    acquisition: float | None = None


# What may tell slices at the same place apart, from the surest to what often numbers single slices.
REPEATS = ("temporal", "b_value", "gradient", "inversion_time", "reference_time", "trigger_time", "acquisition")


def classic_frame(dataset: Dataset) -> Frame:
    """Return the only frame of a file whose header speaks of one slice."""
    return Frame(
        position=_numbers(dataset.get("ImagePositionPatient"), 3),
        orientation=_numbers(dataset.get("ImageOrientationPatient"), 6),
        pixel_spacing=_numbers(dataset.get("PixelSpacing"), 2),
        slope=_number(dataset.get("RescaleSlope"), 1.0),
        intercept=_number(dataset.get("RescaleIntercept"), 0.0),
        contrast=_contrast(dataset.get("ImageType"), _private(dataset, _GE_COMPONENT)),
        echo=_maybe(dataset.get("EchoNumbers")),
        echo_time=_maybe(dataset.get("EchoTime")),
        temporal=_maybe(dataset.get("TemporalPositionIdentifier")),
        b_value=_b_value(dataset),
        gradient=_numbers(dataset.get("DiffusionGradientOrientation"), 3),
        inversion_time=_maybe(dataset.get("InversionTime")),
        trigger_time=_maybe(dataset.get("TriggerTime")),
        reference_time=_maybe(dataset.get("FrameReferenceTime")),
        acquisition=_maybe(dataset.get("AcquisitionNumber")),
    )


def enhanced_frames(dataset: Dataset) -> tuple[Frame, ...]:
    """Return the frames of an enhanced multi-frame object, from its functional groups."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    frames = dataset["PerFrameFunctionalGroupsSequence"].value
    return tuple(_enhanced_frame(n, (own, shared[0]), dataset.get("ImageType")) for n, own in enumerate(frames))


def _enhanced_frame(number: int, groups: tuple[Dataset, Dataset], image_type: Any) -> Frame:
    def find(sequence: str, attribute: str) -> Any:
        for group in groups:
            items = group.get(sequence)
            if items and attribute in items[0]:
                return items[0][attribute].value
        return None

    gradients = find("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    types = (find(f"{kind}FrameTypeSequence", "FrameType") for kind in ("MRImage", "CTImage", "PET", "XRay3D"))
    return Frame(
        number=number,
        position=_numbers(find("PlanePositionSequence", "ImagePositionPatient"), 3),
        orientation=_numbers(find("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        pixel_spacing=_numbers(find("PixelMeasuresSequence", "PixelSpacing"), 2),
        slope=_number(find("PixelValueTransformationSequence", "RescaleSlope"), 1.0),
        intercept=_number(find("PixelValueTransformationSequence", "RescaleIntercept"), 0.0),
        contrast=_contrast(next((t for t in types if t is not None), image_type), None),
        echo_time=_maybe(find("MREchoSequence", "EffectiveEchoTime")),
        temporal=_maybe(find("FrameContentSequence", "TemporalPositionIndex")),
        b_value=_maybe(find("MRDiffusionSequence", "DiffusionBValue")),
        gradient=_numbers(gradients[0].get("DiffusionGradientOrientation"), 3) if gradients else None,
        inversion_time=_maybe(find("MRModifierSequence", "InversionTimes")),
        trigger_time=_maybe(find("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")),
        acquisition=_maybe(find("FrameContentSequence", "FrameAcquisitionNumber")),
    )


def _b_value(dataset: Dataset) -> float | None:
    standard = _maybe(dataset.get("DiffusionBValue"))
    if standard is not None:
        return standard
    for tag in (_SIEMENS_B_VALUE, _PHILIPS_B_VALUE, _GE_B_VALUE):
        value = _private(dataset, tag)
        if value is not None:
            return value % _GE_B_OFFSET
    return None


def _private(dataset: Dataset, tag: tuple[int, int]) -> float | None:
    """Return the first number of a private element, which may be anything with another vendor."""
    try:
        value = dataset[tag].value if tag in dataset else None
        text = value.decode("ascii") if isinstance(value, bytes) else value
        return _maybe(text.split("\\")[0] if isinstance(text, str) else text)
    except (ValueError, TypeError):
        return None


def _contrast(image_type: Any, component: float | None) -> str:
    tokens = [image_type] if isinstance(image_type, str) else [str(token) for token in image_type or ()]
    return blake2b(repr((tokens, component)).encode(), digest_size=4).hexdigest()


def _numbers(value: Any, length: int) -> tuple[float, ...] | None:
    """Return so many numbers, or None where the element is missing, empty or of another length."""
    if value is None or isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != length:
        return None
    return tuple(float(v) for v in value)


def _number(value: Any, default: float) -> float:
    found = _maybe(value)
    return default if found is None else found


def _maybe(value: Any) -> float | None:
    """Return a number, or the first of several, or None."""
    if not isinstance(value, str | bytes) and isinstance(value, Sequence):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)
