"""Where the voxels of a file lie in the patient: its header as SimpleITK reads it, or nibabel where that refuses."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from .refusals import Refused
from .voxel_bytes import VoxelBytes, nifti_header

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
class Grid:
    """What a file says about its grid; the axes of sizes are x, y, z, and what follows."""

    sizes: tuple[int, ...]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    notes: tuple[str, ...] = ()


def read_grid(path: Path, name: str, place: VoxelBytes | None) -> Grid:
    """Read the grid of a file of the named format; what is no scalar image of three axes or more raises Refused."""
    grid = _read(path, name, place)
    return _squeezed(grid, place.sizes if place else grid.sizes)


def _read(path: Path, name: str, place: VoxelBytes | None) -> Grid:
    if name == "NIfTI":
        _check_nifti(path)
        if nifti_header(path)["sizeof_hdr"] != 348:  # NIfTI-2, which SimpleITK 2.5 does not know
            return _nifti_by_nibabel(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with silence():
            reader.ReadImageInformation()
    except RuntimeError as error:
        if name == "NIfTI" and "orthonormal" in str(error):
            return _nifti_by_nibabel(path)
        raise unreadable(name) from error
    if reader.GetNumberOfComponents() != 1:
        raise _no_scalars(f"{reader.GetNumberOfComponents()} values")
    sizes = tuple(reader.GetSize())
    if len(sizes) < 3:
        raise _flat(sizes)
    n = len(sizes)
    direction = np.asarray(reader.GetDirection()).reshape(n, n)[:3, :3]
    spacing = np.asarray(reader.GetSpacing()[:3])
    if place is not None and math.prod(place.sizes) != math.prod(sizes):
        raise unreadable(name)
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


def _nifti_by_nibabel(path: Path) -> Grid:
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
) -> Grid:
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
    return Grid(
        tuple(int(size) for size in sizes),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        straight,
        notes,
    )


def _squeezed(grid: Grid, stored: tuple[int, ...]) -> Grid:
    """Drop axes of length 1 after the third, some of which ITK drops itself; refuse what has fewer than three axes."""
    sizes = grid.sizes
    if len(sizes) < 3 or min(sizes[:3]) < 2:
        raise _flat(sizes)
    if len(stored) > 3 and math.prod(sizes[3:]) == 1:
        note = f"empty axes after the third were dropped: the file has the shape {list(stored)}"
        return dataclasses.replace(grid, sizes=sizes[:3], notes=(*grid.notes, note))
    return grid


def _flat(sizes: tuple[int, ...]) -> Refused:
    return Refused(
        "dimensions",
        f"It is a single slice ({' x '.join(map(str, sizes))}), not a volume.",
        "Stack the slices of a scan into one file, or remove it.",
    )


def unreadable(name: str) -> Refused:
    """Refuse a file that is not what its ending says."""
    return Refused("unreadable", f"It cannot be read as {name}.", "Remove it, or rename it to what it is.")


def _no_scalars(found: str) -> Refused:
    return Refused(
        "colour",
        f"Each voxel holds {found}; one number is needed.",
        "Remove it (a colour picture, a vector field or complex data), or store its channels as files of their own.",
    )


@contextmanager
def silence() -> Iterator[None]:
    """Keep what MetaIO and VNL print on standard error whatever ITK is told; what is wrong is told by a refusal."""
    try:
        stderr = os.dup(2)
    except OSError:  # there is none to keep quiet
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)
