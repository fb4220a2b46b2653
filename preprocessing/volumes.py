"""One image as stored, whatever the format: read with SimpleITK, or with nibabel where SimpleITK refuses."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from .refusals import Refused
from .voxel_bytes import VoxelBytes, meta_bytes, nifti_bytes, nifti_header, nrrd_bytes

# Analyze pairs (.hdr with .img) are left out: the format does not say which side is left.
FORMATS: dict[str, str] = {
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
_FINDERS: dict[str, Callable[[Path], VoxelBytes | None]] = {
    "NIfTI": nifti_bytes,
    "NRRD": nrrd_bytes,
    "MetaImage": meta_bytes,
}

# Axes this far from perpendicular are taken as perpendicular: 100 mm along one then lean over by less than 9 mm. The
# gantry of a CT is tilted further where it is tilted on purpose, and a scan sheared by that is not passed in silence.
MOST_SHEAR = 5.0  # degrees
# ITK 5.4 does not return from a NIfTI whose affine holds numbers near the end of their range.
FARTHEST = 1e6  # mm
_AFFINES = {
    "sform_code": ("srow_x", "srow_y", "srow_z"),
    "qform_code": ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
}

# The note of a volume that had to be read without SimpleITK.
REFUSED_BY_SIMPLEITK = "SimpleITK, and with it nnU-Net's usual reader, refuses this file"

ROUNDING = 0.1  # degrees; headers written from single precision and rounded text stay far below


@dataclass(frozen=True)
class Volume:
    """A scalar image of three dimensions and where it lies in the patient (ITK's LPS millimetres)."""

    voxels: NDArray[Any]  # (z, y, x), as SimpleITK and nnU-Net's readers order them
    spacing: tuple[float, float, float]  # of x, y, z
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # rows of the 3 x 3 matrix
    notes: tuple[str, ...] = field(default=())  # what a user should know although the image is fine
    reduced: bool = False  # it is one of several volumes in the file, or their mean


@dataclass(frozen=True)
class _Header:
    """What a file says about its grid; the axes of sizes are x, y, z, and what follows."""

    sizes: tuple[int, ...]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    notes: tuple[str, ...] = ()


def ending_of(path: str | Path) -> str:
    """Return the ending of a file of a format that we read, in lower case; "" for any other."""
    name = Path(path).name.lower()
    return next((e for e in sorted(FORMATS, key=len, reverse=True) if name.endswith(e) and name != e), "")


def read_volume(path: Path, time: str = "refuse") -> Volume:
    """Read a NIfTI, NRRD or MetaImage file; what cannot be a scalar volume raises Refused.

    Args:
        path: The file; of a detached pair, the header.
        time: What to do with a fourth axis: ``refuse`` the image, take the ``first`` volume, or the ``mean``.
    """
    if time not in ("refuse", "first", "mean"):
        raise ValueError(f"time is {time!r}; it can be refuse, first or mean.")
    place, header = _open(path)
    sizes = header.sizes
    notes = header.notes
    if len(sizes) > 3:
        _check_time(sizes, time)
        used = "the first was taken" if time == "first" else "their mean was taken"
        notes += (f"{math.prod(sizes[3:])} volumes in one file; {used}",)
    voxels = _voxels(path, place)
    voxels = voxels.reshape(-1, *sizes[2::-1])
    reduced = len(voxels) > 1
    voxels = voxels.mean(axis=0, dtype=np.float32) if reduced and time == "mean" else voxels[0]
    return Volume(voxels, header.spacing, header.origin, header.direction, notes, reduced)


def peek(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return shape and spacing as (z, y, x), from the header alone."""
    _, header = _open(path)
    return header.sizes[2::-1], header.spacing[::-1]


def _open(path: Path) -> tuple[VoxelBytes | None, _Header]:
    ending = ending_of(path)
    if not ending:
        raise Refused(
            "unreadable", "Its ending is none that is read here.", f"Convert it to one of {', '.join(FORMATS)}."
        )
    _check_content(path)
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        place = _FINDERS[FORMATS[ending]](path)
        header = _header(path, FORMATS[ending], place)
    except Refused:
        raise
    except Exception as error:
        raise _unreadable(FORMATS[ending]) from error
    return place, _squeezed(header, place.sizes if place else header.sizes)


def _check_content(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(256).lstrip().lower()
        size = path.stat().st_size
    except OSError as error:
        raise Refused(
            "unreadable",
            f"It cannot be opened ({type(error).__name__}).",
            "Check that the file is there and that you may read it.",
        ) from error
    if size == 0:
        raise Refused("empty", "The file has 0 bytes.", "Copy or download it again, or remove it.")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Refused("unreadable", "It is a web page, as a failed download leaves.", "Download the image again.")


def _unreadable(name: str) -> Refused:
    return Refused("unreadable", f"It cannot be read as {name}.", "Remove it, or rename it to what it is.")


def _header(path: Path, name: str, place: VoxelBytes | None) -> _Header:
    if name == "NIfTI":
        _check_nifti(path)
        if nifti_header(path)["sizeof_hdr"] != 348:  # NIfTI-2, which SimpleITK 2.5 does not know
            return _nifti_by_nibabel(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _silence():
            reader.ReadImageInformation()
    except RuntimeError as error:
        if name == "NIfTI" and "orthonormal" in str(error):
            return _nifti_by_nibabel(path)
        raise _unreadable(name) from error
    if reader.GetNumberOfComponents() != 1:
        raise _no_scalars(f"{reader.GetNumberOfComponents()} values")
    sizes = tuple(reader.GetSize())
    if len(sizes) < 3:
        raise _flat(sizes)
    n = len(sizes)
    direction = np.asarray(reader.GetDirection()).reshape(n, n)[:3, :3]
    spacing = np.asarray(reader.GetSpacing()[:3])
    if place is not None and math.prod(place.sizes) != math.prod(sizes):
        raise _unreadable(name)
    return _perpendicular(sizes, spacing, np.asarray(reader.GetOrigin()[:3]), direction)


def _check_nifti(path: Path) -> None:
    """Refuse what SimpleITK would mend or read without a word."""
    header = nifti_header(path)
    pixdim = [float(value) for value in header["pixdim"][1:4]]
    if not all(np.isfinite(pixdim)) or 0 in pixdim:
        raise Refused(
            "spacing",
            f"The spacing in its header is {pixdim} mm, which SimpleITK would silently replace by 1.",
            "Write the true spacing into the header, or remove the file.",
        )
    used = [key for code, keys in _AFFINES.items() if header[code] > 0 for key in keys]
    numbers = np.concatenate([np.ravel(header[key]) for key in used]) if used else np.zeros(1)
    if not (np.abs(numbers) < FARTHEST).all():
        raise Refused(
            "direction",
            f"The affine in its header holds {float(numbers[~(np.abs(numbers) < FARTHEST)][0]):g}.",
            "Repair the header, or remove the file.",
        )
    if header.get_data_dtype().fields or header.get_data_dtype().kind == "c":
        raise _no_scalars("colours or complex numbers")
    sizes = header.get_data_shape()
    if len(sizes) > 4 and sizes[4] > 1:
        raise _no_scalars(f"{sizes[4]} values")


def _nifti_by_nibabel(path: Path) -> _Header:
    """Take the grid of a NIfTI from its affine, as nibabel reads it, where SimpleITK refuses the file."""
    header = nifti_header(path)
    scale = {"meter": 1e3, "micron": 1e-3}.get(header.get_xyzt_units()[0], 1.0)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(header.get_best_affine(), np.float64)  # RAS to ITK's LPS
    columns = affine[:3, :3] * scale
    spacing = np.linalg.norm(columns, axis=0)
    if not (np.isfinite(affine).all() and spacing.all()):
        raise Refused(
            "direction",
            "The affine in its header does not span three dimensions.",
            "Repair the header, or remove the file.",
        )
    grid = _perpendicular(header.get_data_shape(), spacing, affine[:3, 3] * scale, columns / spacing)
    return dataclasses.replace(grid, notes=(REFUSED_BY_SIMPLEITK, *grid.notes))


def _perpendicular(
    sizes: tuple[int, ...], spacing: NDArray[Any], origin: NDArray[Any], direction: NDArray[Any]
) -> _Header:
    """Replace axes that are nearly perpendicular by the nearest that are (the polar decomposition)."""
    lengths = np.linalg.norm(direction, axis=0)
    if not np.isfinite(direction).all() or np.abs(lengths - 1).max() > 0.01:
        raise Refused(
            "direction",
            f"The axes in its header have the lengths {lengths.round(3).tolist()} instead of 1.",
            "Repair the header, or remove the file.",
        )
    cosines = (direction / lengths).T @ (direction / lengths)
    shear = math.degrees(math.asin(min(1.0, np.abs(cosines - np.diag(np.diag(cosines))).max())))
    if shear > MOST_SHEAR:
        raise Refused(
            "direction",
            f"Its axes are up to {shear:.1f} degrees from perpendicular; at most {MOST_SHEAR:g} are put straight.",
            "Resample the image onto perpendicular axes (a scan with a tilted gantry needs that), or remove it.",
        )
    u, _, v = np.linalg.svd(direction / lengths)
    straight = tuple(float(value) + 0.0 for value in (u @ v).ravel())
    notes = (f"axes were {shear:.2f} degrees from perpendicular and were put straight",) if shear > ROUNDING else ()
    return _Header(
        tuple(int(size) for size in sizes),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        straight,
        notes,
    )


def _squeezed(header: _Header, stored: tuple[int, ...]) -> _Header:
    """Drop axes of length 1 after the third, some of which ITK drops itself; refuse what has fewer than three axes."""
    sizes = header.sizes
    if len(sizes) < 3 or min(sizes[:3]) < 2:
        raise _flat(sizes)
    if len(stored) > 3 and math.prod(sizes[3:]) == 1:
        note = f"empty axes after the third were dropped: the file has the shape {list(stored)}"
        return dataclasses.replace(header, sizes=sizes[:3], notes=(*header.notes, note))
    return header


def _flat(sizes: tuple[int, ...]) -> Refused:
    return Refused(
        "dimensions",
        f"It is a single slice ({' x '.join(map(str, sizes))}), not a volume.",
        "Stack the slices of a scan into one file, or remove it.",
    )


def _check_time(sizes: tuple[int, ...], time: str) -> None:
    if time == "refuse":
        raise Refused(
            "dimensions",
            f"It has {len(sizes)} dimensions ({' x '.join(map(str, sizes))}), as a series over time has.",
            "Choose the first volume or the mean over time by option, or split the file.",
        )


def _no_scalars(found: str) -> Refused:
    return Refused(
        "colour",
        f"Each voxel holds {found}; one number is needed.",
        "Remove it (a colour picture, a vector field or complex data), or store its channels as files of their own.",
    )


def _voxels(path: Path, place: VoxelBytes | None) -> NDArray[Any]:
    name = FORMATS[ending_of(path)]
    try:
        if place is not None:
            return place.read()
        with _silence():
            return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    except (RuntimeError, OSError, ValueError, OverflowError) as error:
        raise _unreadable(name) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what MetaIO and VNL print on standard error whatever ITK is told; what is wrong is told by a refusal."""
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)
