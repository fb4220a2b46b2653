"""From DICOM files to stacks of slices: split by all that makes slices not belong together, not by UID alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.errors import SettingsError

from .dicom_frames import REPEATS, Frame
from .dicom_headers import SliceHeader
from .refusals import Refused

# Within a stack these differ by the rounding of decimal text only. A thousandth in a direction moves the edge of a
# 500 mm field of view by a quarter of a millimetre; a thousandth of a pixel is half a pixel over 512 of them.
ORIENTATION_TOLERANCE = 1e-3
PIXEL_TOLERANCE = 1e-3
ECHO_TOLERANCE = 0.1  # milliseconds; the closest echoes that are told apart, in and out of phase at 7 T, are 0.5 apart
SAME_PLACE = 0.01  # millimetres; headers give positions to 0.1 mm or finer, and copies of a slice agree in all digits

GEOMETRIES = ("refuse", "resample")

_Labels = tuple[tuple[str, Any], ...]  # what a repeat was told apart by, and its value


@dataclass(frozen=True)
class DicomPolicy:
    """What the user wants where users differ."""

    geometry: str = "refuse"  # slices missing, uneven or sheared: leave the series out, or resample it
    least_slices: int = 5
    derived: bool = False  # take projections, reformatted images and secondary captures too

    def __post_init__(self) -> None:
        if self.geometry not in GEOMETRIES:
            raise SettingsError(f"geometry is {self.geometry!r}, but it is one of {', '.join(GEOMETRIES)}.")
        if self.least_slices < 2:
            raise SettingsError(f"least_slices is {self.least_slices}, but a volume has at least 2 slices.")


@dataclass(frozen=True)
class Slice:
    """A frame of a file."""

    header: SliceHeader
    frame: Frame


@dataclass(frozen=True)
class Series:
    """Slices that belong together, in order along their normal; the key says nothing, and stays the same."""

    key: str
    study: str
    modality: str
    slices: tuple[Slice, ...]
    description: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.key

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, each once."""
        return tuple(dict.fromkeys(one.header.path for one in self.slices))


def group_series(
    headers: Iterable[SliceHeader], policy: DicomPolicy
) -> tuple[list[Series], list[tuple[Series, Refused]]]:
    """Return the stacks that are volumes, and those that are left out with the reason why."""
    series: list[Series] = []
    left_out: list[tuple[Series, Refused]] = []
    used: set[str] = set()
    for one in _named(_stacks(headers), used):
        refused = _unfit(one, policy)
        if refused is None:
            series.append(one)
        else:
            left_out.append((one, refused))
    return series, left_out


def along_normal(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Return how far along the normal of the first slice each slice lies, in millimetres."""
    positions = np.array([one.frame.position for one in slices], dtype=np.float64)
    orientation = np.array(slices[0].frame.orientation, dtype=np.float64)
    return np.asarray(positions @ np.cross(orientation[:3], orientation[3:]), dtype=np.float64)


def _named(stacks: Iterable[tuple[_Labels, list[Slice]]], used: set[str]) -> Iterator[Series]:
    for labels, stack in stacks:
        first = stack[0]
        key = _key(first, labels)
        while key in used:
            key = blake2b(key.encode(), digest_size=6).hexdigest()
        used.add(key)
        yield Series(key, first.header.study, first.header.modality, tuple(stack), first.header.description)


def _key(one: Slice, labels: _Labels) -> str:
    """Name a stack by what sets it apart, so that neither its place in the archive nor its neighbours matter."""
    rounded = [round(v, 2) + 0.0 for v in (*(one.frame.orientation or ()), *(one.frame.pixel_spacing or ()))]
    return blake2b(repr((_exact(one), rounded, labels)).encode(), digest_size=6).hexdigest()


def _stacks(headers: Iterable[SliceHeader]) -> Iterator[tuple[_Labels, list[Slice]]]:
    alike: dict[tuple[Any, ...], list[Slice]] = defaultdict(list)
    for header in sorted(headers, key=lambda h: (h.instance is None, h.instance or 0, h.path)):
        for frame in header.frames:
            one = Slice(header, frame)
            alike[_exact(one)].append(one)
    for _, slices in sorted(alike.items(), key=lambda item: repr(item[0])):
        if _never_a_volume(slices[0].header) or not _placed(slices[0].frame):
            yield (), slices
            continue
        for cluster in _clusters(slices):
            for labels, stack in _without_repeats(cluster):
                yield labels, [stack[i] for i in np.argsort(along_normal(stack), kind="stable")]


def _exact(one: Slice) -> tuple[Any, ...]:
    """Return what slices of a stack have in common to the letter."""
    header, frame = one.header, one.frame
    return (
        header.series, header.study, header.kind, header.modality, header.flags, header.rows, header.columns,
        header.samples, header.photometric, frame.contrast, frame.echo, _placed(frame),
    )  # fmt: skip


def _never_a_volume(header: SliceHeader) -> bool:
    return header.kind in ("none", "map", "film", "mosaic") or header.samples > 1 or "localizer" in header.flags


def _placed(frame: Frame) -> bool:
    return frame.position is not None and frame.orientation is not None and frame.pixel_spacing is not None


def _clusters(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Put slices together that agree, within tolerance, with the first of a cluster."""
    clusters: list[list[Slice]] = []
    for one in slices:
        for cluster in clusters:
            if _agree(one.frame, cluster[0].frame):
                cluster.append(one)
                break
        else:
            clusters.append([one])
    return clusters


def _agree(a: Frame, b: Frame) -> bool:
    turned = max(abs(x - y) for x, y in zip(a.orientation or (), b.orientation or (), strict=True))
    scaled = max(
        abs(x - y) / max(abs(y), 1e-9) for x, y in zip(a.pixel_spacing or (), b.pixel_spacing or (), strict=True)
    )
    echoes = a.echo_time, b.echo_time
    same_echo = echoes[0] == echoes[1] if None in echoes else abs(echoes[0] - echoes[1]) <= ECHO_TOLERANCE  # type: ignore[operator]
    return turned <= ORIENTATION_TOLERANCE and scaled <= PIXEL_TOLERANCE and same_echo


def _without_repeats(slices: list[Slice], labels: _Labels = ()) -> list[tuple[_Labels, list[Slice]]]:
    """Split a time series, or whatever visits each place several times, by what tells its volumes apart.

    Each part must cover at least half of the places: a number that counts single slices tells no volumes apart.
    """
    places = _places(slices)
    if places == len(slices):
        return [(labels, slices)]
    for name in REPEATS:
        parts: dict[Any, list[Slice]] = defaultdict(list)
        for one in slices:
            parts[getattr(one.frame, name)].append(one)
        if len(parts) > 1 and all(2 * _places(part) >= places for part in parts.values()):
            ordered = sorted(parts.items(), key=lambda part: (part[0] is not None, part[0]))
            return [stack for value, part in ordered for stack in _without_repeats(part, (*labels, (name, value)))]
    return [(labels, slices)]


def _places(slices: Sequence[Slice]) -> int:
    """Count the different places along the normal."""
    return 1 + int(np.count_nonzero(np.diff(np.sort(along_normal(slices))) > SAME_PLACE))


def _unfit(series: Series, policy: DicomPolicy) -> Refused | None:
    """Say why a stack is no volume to learn from, if so."""
    header, count = series.slices[0].header, len(series.slices)
    if header.kind == "none":
        return Refused(
            "no-pixels",
            f"{count} DICOM object(s) without an image (structures, reports, presentation states, indexes).",
            "Nothing to do.",
        )
    if header.kind == "map":
        return Refused(
            "derived",
            f"{count} frame(s) of a segmentation, dose or parametric map, which is no scan.",
            "Nothing to do.",
        )
    if header.samples > 1 or header.photometric == "colour":
        return Refused(
            "colour", f"{count} colour image(s), {header.samples} values a pixel.", "Scalar images are needed."
        )
    if "localizer" in header.flags:
        return Refused("localizer", f"{count} localizer image(s).", "Nothing to do: they only plan the scan.")
    if header.kind == "secondary" and not policy.derived:
        return Refused(
            "derived",
            f"{count} secondary capture(s): screenshots, dose pages or exports.",
            "If they are slices of a scan, import with --derived.",
        )
    if "projection" in header.flags and not policy.derived:
        return Refused(
            "derived",
            f"{count} projected or reformatted image(s), computed from a scan.",
            "Import with --derived to take them although the scan itself may be there too.",
        )
    return _no_stack(series, header, policy)


def _no_stack(series: Series, header: SliceHeader, policy: DicomPolicy) -> Refused | None:
    count = len(series.slices)
    if header.kind == "mosaic":
        return Refused(
            "dimensions",
            f"{count} mosaic(s): all slices of a volume as tiles of one image (Siemens functional or diffusion MR).",
            "Convert them to NIfTI with dcm2niix.",
        )
    if header.kind == "film" or not _placed(series.slices[0].frame):
        what = "A film of several frames" if header.kind == "film" else f"{count} image(s)"
        return Refused(
            "dimensions",
            f"{what} without slice positions, orientation or pixel spacing ({header.modality}).",
            "Nothing to do for projection images and ultrasound; otherwise convert it to NIfTI by other means.",
        )
    places = _places(series.slices)
    if places < policy.least_slices:
        return Refused(
            "one-slice",
            f"{places} slice position(s) of {header.columns} x {header.rows} pixels; at least {policy.least_slices} "
            "are asked for.",
            "If such a stack is a volume to you, import with --least-slices.",
        )
    return None
