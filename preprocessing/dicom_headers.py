"""What grouping and geometry need of a DICOM header, and nothing that says who was scanned, or when.

UIDs are hashed as soon as they are read. The series description is kept in memory only, for matching channels.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from .dicom_deflated import check_unpacked
from .dicom_frames import FRAME_TAGS, Frame, classic_frame, enhanced_frames
from .refusals import Refused

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# CT, MR, PET and their multi-frame forms: with no rows, such a file was cut off.
_SCANS = {_STORAGE + end for end in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")}
_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR, the only object that is of no series
_SECONDARY = {_STORAGE + end for end in ("7", "7.1", "7.2", "7.3", "7.4")}
_MASKS_AND_MAPS = {_STORAGE + end for end in ("66.4", "66.7", "481.2", "30")}  # segmentations, dose, parametric maps
_LOCALIZER = {"LOCALIZER", "SCOUT", "SURVEY", "TOPOGRAM"}
_LOCALIZER_NAMES = re.compile(r"(?<![a-z])(locali[sz]ers?|scout|topogram|surview|survey)(?![a-z])", re.IGNORECASE)
# Pictures computed from a scan: projections, oblique cuts through it, movies and screenshots of it.
_PROJECTIONS = re.compile(r"MIP|MINIP|M?PROJECTION.*|PROJ|MPR|CPR|CURVED|REFORMATTED|SCREEN.*|VRT|SSD|COLLAGE|DOSE.*")

_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "ImageType", "Modality", "Rows", "Columns",
    "SamplesPerPixel", "PhotometricInterpretation", "InstanceNumber", "NumberOfFrames", "SeriesDescription",
    *FRAME_TAGS,
]  # fmt: skip


@dataclass(frozen=True)
class SliceHeader:
    """A DICOM file: one slice, or the frames of a multi-frame object; a film is one without slice positions."""

    path: str
    series: str  # hash of the UID; of the folder where there is none
    study: str
    kind: str  # scan, film, mosaic, secondary, map (masks, dose and parametric maps), none (no pixels)
    modality: str
    flags: tuple[str, ...]  # localizer, projection, derived
    rows: int
    columns: int
    samples: int
    photometric: str
    instance: int | None
    frames: tuple[Frame, ...]
    description: str = field(default="", repr=False, compare=False)

    def to_mapping(self) -> dict[str, Any]:
        """Return what may be written to a file: plain types, without the description."""
        mapping = asdict(self)
        del mapping["description"]
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SliceHeader:
        """Undo ``to_mapping``, also after a detour through JSON."""
        frames = []
        for frame in mapping["frames"]:
            values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in frame.items()}
            frames.append(Frame(**values))
        return cls(**{**mapping, "flags": tuple(mapping["flags"]), "frames": tuple(frames)})


def looks_like_dicom(path: Path) -> bool:
    """Say whether a file has DICOM's mark, from its first 132 bytes; a pipe would be waited for without end."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> SliceHeader:
    """Read what is needed of a file's header; the pixels are not touched."""
    dataset = _read(path, _TAGS)
    try:
        return _header(Path(path), dataset)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # what a broken value raises is pydicom's choice, and its message quotes the value
        raise Refused(
            "unreadable",
            f"The DICOM header holds values that cannot be understood ({type(error).__name__}).",
            "Export the series again, or remove the file.",
        ) from None


def series_in(folder: str) -> list[str]:
    """Return the hashed UIDs of the series that a folder holds slices of."""
    found = set()
    for path in Path(folder).iterdir():
        if looks_like_dicom(path):
            try:
                with quiet_pydicom():  # a value is converted, and complained about, when it is first asked for
                    found.add(_series_id(path, _read(path, ["SeriesInstanceUID"])))
            except Refused:
                continue  # it is read again, and then reported
    return sorted(found)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from quoting header values in warnings and logs, and from validating what is only passed on."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _read(path: Path, tags: list[str]) -> Dataset:
    try:
        if Path(path).stat().st_size == 0:
            raise Refused("empty", "The file holds nothing (0 bytes).", "Copy or export it again.")
        check_unpacked(path)
        with quiet_pydicom():
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
    except (Refused, MemoryError):
        raise
    except pydicom.errors.InvalidDicomError:
        raise Refused(
            "unreadable",
            "This is no DICOM file: the mark 'DICM' at byte 128 is missing.",
            "Rename it if it is of another kind. Files without that mark, from before 1993 or cut out of a network "
            "transfer, have to be rewritten as DICOM files first (for example by dcmtk's dcmconv +F).",
        ) from None
    except (EOFError, OSError) as error:
        raise Refused(
            "truncated" if not isinstance(error, PermissionError) else "unreadable",
            f"The DICOM header cannot be read to its end ({type(error).__name__}).",
            "Copy or export the file again.",
        ) from None
    except Exception as error:
        raise Refused(
            "unreadable", f"The DICOM header is damaged ({type(error).__name__}).", "Copy or export the file again."
        ) from None


def _header(path: Path, dataset: Dataset) -> SliceHeader:
    with quiet_pydicom():
        rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        kind = _kind(dataset, rows * columns)
        enhanced = "PerFrameFunctionalGroupsSequence" in dataset
        description = str(dataset.get("SeriesDescription") or "")
        modality = str(dataset.get("Modality") or "")
        return SliceHeader(
            path=str(path),
            series=_series_id(path, dataset),
            study=_hash(dataset.get("StudyInstanceUID") or ""),
            kind=kind,
            modality=modality if re.fullmatch("[A-Z]{2,4}", modality) else "unknown",
            flags=_flags(dataset, description),
            rows=rows,
            columns=columns,
            samples=int(dataset.get("SamplesPerPixel") or 1),
            photometric=_photometric(dataset),
            instance=_integer(dataset.get("InstanceNumber")),
            frames=enhanced_frames(dataset) if enhanced else (classic_frame(dataset),),
            description=description,
        )


def _kind(dataset: Dataset, pixels: int) -> str:
    sop_class = str(dataset.get("SOPClassUID") or "")
    if not pixels:
        if sop_class in _SCANS or ("SeriesInstanceUID" not in dataset and sop_class != _DIRECTORY):
            raise Refused(
                "truncated",
                "The file ends before its header says how large the image is.",
                "Copy or export the file again.",
            )
        return "none"
    if sop_class in _MASKS_AND_MAPS:
        return "map"
    if int(dataset.get("NumberOfFrames") or 1) > 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        return "film"
    if "MOSAIC" in _image_type(dataset):
        return "mosaic"
    return "secondary" if sop_class in _SECONDARY else "scan"


def _flags(dataset: Dataset, description: str) -> tuple[str, ...]:
    tokens = _image_type(dataset)
    flags = []
    if tokens & _LOCALIZER or _LOCALIZER_NAMES.search(description):
        flags.append("localizer")
    if any(_PROJECTIONS.fullmatch(part) for token in tokens for part in re.split(r"[ _]", token)):
        flags.append("projection")
    if "DERIVED" in tokens:
        flags.append("derived")
    return tuple(flags)


def _image_type(dataset: Dataset) -> set[str]:
    values = dataset.get("ImageType") or ()
    return {str(value).upper() for value in ([values] if isinstance(values, str) else values)}


def _photometric(dataset: Dataset) -> str:
    value = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2").strip()
    return value if re.fullmatch("MONOCHROME[12]", value) else "colour"


def _series_id(path: Path, dataset: Dataset) -> str:
    # Some anonymisers remove the UID. The files of a folder are then one series until geometry says otherwise.
    return _hash(dataset.get("SeriesInstanceUID") or f"folder {Path(path).parent}")


def _hash(uid: object) -> str:
    return blake2b(str(uid).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _integer(value: Any) -> int | None:
    return int(value) if value is not None and str(value).strip() and math.isfinite(float(value)) else None
