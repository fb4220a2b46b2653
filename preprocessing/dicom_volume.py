"""A DICOM series as one volume: each slice scaled by its own slope, on a grid its positions really lie on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dicom_geometry import Geometry, geometry_of, refuse_far_shift, refuse_faults, refuse_wide_gap, tilt_in_words
from .dicom_pixels import read_frames
from .dicom_resample import even_stack, upright_stack
from .dicom_series import DicomPolicy, Series
from .refusals import Refused
from .sizes import check_size
from .volumes import Volume

# Their values are measured in units (Hounsfield, Bq/ml), and mean the same however they are to be shown.
_MEASURED = ("CT", "PT")


def load_series(series: Series, policy: DicomPolicy) -> Volume:
    """Read a series from ``group_series``; whatever keeps it from being a volume raises Refused."""
    geometry = geometry_of(series.slices)
    if policy.geometry == "refuse":
        refuse_faults(geometry)
    else:
        refuse_wide_gap(geometry)
    voxels, dropped = _read_stack(series, geometry)
    notes = []
    if dropped:
        notes.append(f"{dropped} slice(s) were there twice, with the same pixels, and taken once.")
    if "derived" in series.slices[0].header.flags:
        notes.append("The header calls this a derived image.")
    if series.slices[0].header.photometric == "MONOCHROME1" and series.modality not in _MEASURED:
        _invert(voxels)
        notes.append("Stored with dark as large (MONOCHROME1), and inverted.")
    return _on_a_grid(voxels, geometry, notes)


def _on_a_grid(voxels: NDArray[Any], geometry: Geometry, notes: list[str]) -> Volume:
    spacing, origin = geometry.spacing, geometry.origin
    if geometry.is_tilted:
        refuse_far_shift(geometry, voxels.shape)
        voxels, moved = upright_stack(voxels, geometry.sideways, spacing)
        axes = np.array(geometry.direction).reshape(3, 3)
        x, y, z = np.array(origin) + axes[:, :2] @ moved
        origin = (float(x), float(y), float(z))
        notes.append(f"{tilt_in_words(geometry)} They were interpolated onto an upright grid.")
    if geometry.is_uneven or geometry.missing:
        before = len(voxels)
        step = float(np.median(np.diff(geometry.distances)))
        voxels, step = even_stack(voxels, geometry.distances, step)
        spacing = (*spacing[:2], step)
        notes.append(
            f"{before} slices with gaps of up to {geometry.widest_gap:.3g} mm were interpolated onto {len(voxels)} "
            f"slices {step:.3g} mm apart."
        )
    if geometry.is_tilted:  # filled up last, so that no filling is mixed with what was measured
        np.nan_to_num(voxels, copy=False, nan=float(np.nanmin(voxels)))
    return Volume(voxels, spacing, origin, geometry.direction, tuple(notes))


def _read_stack(series: Series, geometry: Geometry) -> tuple[NDArray[Any], int]:
    """Return the voxels, int16 where that holds them, and how many slices were copies of another."""
    header = series.slices[0].header
    whole = all(one.frame.slope == 1 and one.frame.intercept.is_integer() for one in series.slices)
    shape = (len(geometry.distances), header.rows, header.columns)
    check_size(2 * math.prod(shape), sum(Path(path).stat().st_size for path in series.paths))
    voxels = np.empty(shape, dtype=np.int16 if whole else np.float32)
    filled = np.zeros(len(voxels), dtype=bool)
    for number, values in _scaled_slices(series, whole):
        if whole and not _holds(voxels.dtype, values):
            voxels = voxels.astype(np.int32 if _holds(np.dtype(np.int32), values) else np.int64)
        place = geometry.place[number]
        values = values.astype(voxels.dtype)
        if filled[place] and not np.array_equal(voxels[place], values, equal_nan=not whole):
            raise Refused(
                "duplicate-slices",
                f"Two slices with different pixels lie {geometry.distances[place]:.3g} mm from the first slice; "
                f"{len(series.slices)} slices share {len(voxels)} positions.",
                "Nothing in the headers tells them apart. Export the series again, each volume as a series of its own.",
            )
        voxels[place] = values
        filled[place] = True
    return voxels, len(series.slices) - len(voxels)


def _scaled_slices(series: Series, whole: bool) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (number of the slice, values) file by file, so that a file of many frames is opened once."""
    by_file: dict[str, dict[int, int]] = defaultdict(dict)
    for number, one in enumerate(series.slices):
        by_file[one.header.path][one.frame.number] = number
    for path, numbers in by_file.items():
        for (_, number), stored in zip(sorted(numbers.items()), read_frames(path, list(numbers)), strict=True):
            frame = series.slices[number].frame
            if not np.isfinite(frame.slope) or frame.slope == 0 or not np.isfinite(frame.intercept):
                raise Refused(
                    "unreadable",
                    f"A slice has a rescale slope of {frame.slope:g} and an intercept of {frame.intercept:g}.",
                    "Export the series again.",
                )
            # In double, as a slope of many digits times a 16-bit value does not fit into single precision.
            yield (
                number,
                stored.astype(np.int64) + int(frame.intercept) if whole else stored * frame.slope + frame.intercept,
            )


def _holds(dtype: np.dtype[Any], values: NDArray[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(limits.min <= values.min() and values.max() <= limits.max)


def _invert(voxels: NDArray[Any]) -> None:
    """Mirror the values between the smallest and the largest, in place."""
    both = voxels.min().astype(np.float64) + voxels.max().astype(np.float64)
    for plane in voxels:
        plane[...] = both - plane.astype(np.float64)
