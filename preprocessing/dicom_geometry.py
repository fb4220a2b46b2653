"""Where the slices of a stack lie, judged by their positions alone: not by tags for tilt, thickness or spacing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .dicom_series import SAME_PLACE, Slice, along_normal
from .refusals import Refused

# A share of the spacing. Headers that round positions to 0.1 mm are 0.05 mm off: a tenth of the spacing at 0.5 mm.
UNEVEN = 0.1
# A share of a pixel, from the first slice to any other. Below it, no voxel is nearer to where another should be.
SIDEWAYS = 0.5
# Slices missing in a row that are still filled in on request. Beyond, interpolation would draw anatomy of its own.
MOST_FILLED = 3
# How many times the voxels an upright stack may have. Over 1000 slices of 1 mm, a gantry tilted by 30 degrees moves a
# field of view of 500 mm by a little more than itself, which doubles them.
MOST_GROWN = 8
_DIGITS = 6  # of the fitted spacing in millimetres; those beyond are noise of the fit
_RIGHT_ANGLE = 1e-3  # how far cosines may be from a right angle, and lengths from 1; more is no rounding


@dataclass(frozen=True)
class Geometry:
    """A stack as its positions tell it; slices at one place share an entry."""

    place: NDArray[np.intp]  # of each slice: which entry of distances it lies at
    distances: NDArray[np.float64]  # along the normal, from the first
    sideways: NDArray[np.float64]  # (n, 2) along x and y, from the first
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    missing: int  # slices, if the rest are where an even grid has them
    uneven: float  # the largest distance of a slice from the closest even grid

    @property
    def is_uneven(self) -> bool:
        """Whether the slices lie on no even grid."""
        return self.uneven > UNEVEN * self.spacing[2]

    @property
    def is_tilted(self) -> bool:
        """Whether slices are shifted against each other within their plane."""
        return bool((np.abs(self.sideways) > SIDEWAYS * np.array(self.spacing[:2])).any())

    @property
    def widest_gap(self) -> float:
        """The largest distance between neighbours."""
        return float(np.diff(self.distances).max())


def geometry_of(slices: Sequence[Slice]) -> Geometry:
    """Judge the positions of slices, which must be in order along their normal and of one orientation."""
    axes = _axes(slices[0])
    spacing_y, spacing_x = slices[0].frame.pixel_spacing or (0.0, 0.0)
    along = along_normal(slices)
    starts = np.diff(along, prepend=-np.inf) > SAME_PLACE
    place = np.cumsum(starts) - 1
    positions = np.array([one.frame.position for one in slices], dtype=np.float64)[starts]
    if not np.isfinite(positions).all() or min(spacing_x, spacing_y) <= 0 or len(positions) < 2:
        raise Refused(
            "spacing",
            f"Pixels of {spacing_x:g} x {spacing_y:g} mm at {len(positions)} slice position(s) make no volume.",
            "Export the series again.",
        )
    offsets = (positions - positions[0]) @ axes
    distances = offsets[:, 2]
    gaps = np.diff(distances)
    steps = np.maximum(1, np.rint(gaps / np.median(gaps)))
    index = np.concatenate([[0], np.cumsum(steps)])
    spacing_z, start = np.polyfit(index, distances, 1)
    return Geometry(
        place=place,
        distances=distances,
        sideways=offsets[:, :2],
        spacing=(float(spacing_x), float(spacing_y), round(float(spacing_z), _DIGITS)),
        origin=(float(positions[0][0]), float(positions[0][1]), float(positions[0][2])),
        direction=tuple(float(v) for v in axes.ravel()),
        missing=int(index[-1]) + 1 - len(distances),
        uneven=float(np.abs(distances - (start + spacing_z * index)).max()),
    )


def refuse_faults(geometry: Geometry) -> None:
    """Raise Refused unless the slices make an even stack at right angles."""
    advice = "Export the series again, or import with --geometry resample to have it interpolated onto an even grid."
    z = geometry.spacing[2]
    count = len(geometry.distances)
    if geometry.is_uneven:
        raise Refused(
            "uneven-slices",
            f"{count} slices are {np.diff(geometry.distances).min():.3g} to {geometry.widest_gap:.3g} mm apart, and "
            f"lie up to {geometry.uneven:.3g} mm off the closest even grid.",
            advice,
        )
    if geometry.missing:
        raise Refused(
            "missing-slices",
            f"{geometry.missing} of {count + geometry.missing} slices {z:.3g} mm apart are missing; the widest gap is "
            f"{geometry.widest_gap:.3g} mm.",
            advice,
        )
    if geometry.is_tilted:
        raise Refused("tilted", tilt_in_words(geometry), advice.replace("an even grid", "an upright grid"))


def refuse_wide_gap(geometry: Geometry) -> None:
    """Raise Refused if too much would have to be made up between two slices."""
    step = float(np.median(np.diff(geometry.distances)))
    if geometry.widest_gap > (MOST_FILLED + 1 + UNEVEN) * step:
        raise Refused(
            "missing-slices",
            f"A gap of {geometry.widest_gap:.3g} mm between slices {step:.3g} mm apart is too wide to interpolate "
            f"(at most {MOST_FILLED} slices in a row are).",
            "Export the series again.",
        )


def refuse_far_shift(geometry: Geometry, shape: Sequence[int]) -> None:
    """Raise Refused if a stack would hardly be more than filling once it is upright, and many times as large."""
    sides = np.array(shape[:0:-1])  # of x and y
    grown = float(np.prod(1 + np.ptp(geometry.sideways, axis=0) / np.array(geometry.spacing[:2]) / sides))
    if not grown <= MOST_GROWN:
        raise Refused(
            "tilted",
            f"{tilt_in_words(geometry)} Upright, they would take {grown:.3g} times the voxels; at most {MOST_GROWN} "
            "times are made.",
            "Export the series again.",
        )


def tilt_in_words(geometry: Geometry) -> str:
    """Return how far slices are shifted within their plane, in numbers."""
    most = np.abs(geometry.sideways).max(axis=0)
    angle = np.degrees(np.arctan2(np.hypot(*geometry.sideways[-1]), geometry.distances[-1]))
    return (
        f"Slices are shifted by up to {most[0]:.3g} mm along x and {most[1]:.3g} mm along y "
        f"(tilted by {angle:.3g} degrees)."
    )


def _axes(one: Slice) -> NDArray[np.float64]:
    """Return the directions of x, y and z as columns, freed of rounding errors."""
    orientation = np.array(one.frame.orientation, dtype=np.float64)
    x, y = orientation[:3], orientation[3:]
    worst = max(abs(x @ y), abs(np.linalg.norm(x) - 1), abs(np.linalg.norm(y) - 1))
    if not worst <= _RIGHT_ANGLE:
        raise Refused(
            "direction",
            f"The directions of rows and columns are {worst:.3g} from being perpendicular and of length 1.",
            "Export the series again.",
        )
    x = x / np.linalg.norm(x)
    y = y - (y @ x) * x
    y = y / np.linalg.norm(y)
    return np.column_stack([x, y, np.cross(x, y)])
