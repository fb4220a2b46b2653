"""One image as stored, whatever the format: read with SimpleITK, or with nibabel where SimpleITK refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from .grids import Grid, read_grid, silence, unreadable
from .refusals import Refused
from .sizes import check_size
from .voxel_bytes import VoxelBytes, meta_bytes, nifti_bytes, nrrd_bytes

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


@dataclass(frozen=True)
class Volume:
    """A scalar image of three dimensions and where it lies in the patient (ITK's LPS millimetres)."""

    voxels: NDArray[Any]  # (z, y, x), as SimpleITK and nnU-Net's readers order them
    spacing: tuple[float, float, float]  # of x, y, z
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # rows of the 3 x 3 matrix
    notes: tuple[str, ...] = field(default=())  # what a user should know although the image is fine
    reduced: bool = False  # it is one of several volumes in the file, or their mean


def ending_of(path: str | Path) -> str:
    """Return the ending of a file of a format that we read, in lower case; "" for any other."""
    name = Path(path).name.lower()
    return next((e for e in sorted(FORMATS, key=len, reverse=True) if name.endswith(e) and name != e), "")


def read_volume(path: Path, time: str = "refuse") -> Volume:
    """Read a NIfTI, NRRD or MetaImage file; what cannot be a scalar volume raises Refused.

    Args:
        path: The file; of a detached pair, the grid.
        time: What to do with a fourth axis: ``refuse`` the image, take the ``first`` volume, or the ``mean``.
    """
    if time not in ("refuse", "first", "mean"):
        raise ValueError(f"time is {time!r}; it can be refuse, first or mean.")
    place, grid = _open(path)
    sizes = grid.sizes
    notes = grid.notes
    if len(sizes) > 3:
        _check_time(sizes, time)
        used = "the first was taken" if time == "first" else "their mean was taken"
        notes += (f"{math.prod(sizes[3:])} volumes in one file; {used}",)
    voxels = _voxels(path, place, sizes)
    voxels = voxels.reshape(-1, *sizes[2::-1])
    reduced = len(voxels) > 1
    voxels = voxels.mean(axis=0, dtype=np.float32) if reduced and time == "mean" else voxels[0]
    return Volume(voxels, grid.spacing, grid.origin, grid.direction, notes, reduced)


def peek(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return shape and spacing as (z, y, x), from the header alone."""
    _, grid = _open(path)
    return grid.sizes[2::-1], grid.spacing[::-1]


def _open(path: Path) -> tuple[VoxelBytes | None, Grid]:
    ending = ending_of(path)
    if not ending:
        raise Refused(
            "unreadable", "Its ending is none that is read here.", f"Convert it to one of {', '.join(FORMATS)}."
        )
    _check_content(path)
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        place = _FINDERS[FORMATS[ending]](path)
        return place, read_grid(path, FORMATS[ending], place)
    except Refused:
        raise
    except Exception as error:
        raise unreadable(FORMATS[ending]) from error


def _check_content(path: Path) -> None:
    try:
        if not path.is_file() and path.exists():  # a pipe would be waited for without end
            raise Refused("unreadable", "It is no file but a pipe, a socket or a device.", "Remove it.")
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


def _check_time(sizes: tuple[int, ...], time: str) -> None:
    if time == "refuse":
        raise Refused(
            "dimensions",
            f"It has {len(sizes)} dimensions ({' x '.join(map(str, sizes))}), as a series over time has.",
            "Choose the first volume or the mean over time by option, or split the file.",
        )


def _voxels(path: Path, place: VoxelBytes | None, sizes: tuple[int, ...]) -> NDArray[Any]:
    name = FORMATS[ending_of(path)]
    try:
        if place is not None:
            return place.read()
        # How it is packed, only SimpleITK knows; so of that the header alone is judged, by the widest type there is.
        check_size(8 * math.prod(sizes), max(path.stat().st_size, math.prod(sizes) // 25))
        with silence():
            return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    except (RuntimeError, OSError, ValueError, OverflowError) as error:
        raise unreadable(name) from error
