"""What a report on an import is made from, and its numbers as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .refusals import Quarantined

AXES = ("x", "y", "z")
INTENSITIES = ("percentile_00_5", "median", "percentile_99_5")


@dataclass(frozen=True)
class ImportReport:
    """What an import found, took and left out; only `quarantined` holds paths, and no report shows them."""

    dataset: str  # Dataset501_Archive
    source: str  # what kind of source it was, without its path
    channel_names: tuple[str, ...]
    found: Mapping[str, int]  # images by format
    ignored: Mapping[str, int]  # files that are no images, by ending
    cases: Sequence[Mapping[str, Any]]  # as in manifest.jsonl
    added: int  # cases that the dataset did not have before
    quarantined: Sequence[Quarantined]
    thumbnails: Mapping[str, bytes]  # PNG by case
    next_command: str

    @property
    def kept(self) -> int:
        """How many cases the dataset had before."""
        return len(self.cases) - self.added


@dataclass(frozen=True)
class Measures:
    """Numbers of all cases; rows are cases, and axes come as x, y, z."""

    spacing: NDArray[np.float64]  # (n, 3), mm
    voxels: NDArray[np.float64]  # (n, 3)
    intensities: NDArray[np.float64]  # (n, channels, 3): within tissue, as INTENSITIES names them
    tissue: NDArray[np.float64]  # (n, channels): share of the voxels

    @property
    def extent(self) -> NDArray[np.float64]:
        """Sizes in mm."""
        return self.spacing * self.voxels


def measure(report: ImportReport) -> Measures:
    """Collect the numbers of a report's cases."""
    cases, channels = report.cases, len(report.channel_names)
    facts = [case["channels"] for case in cases]
    intensities = [[[channel[name] for name in INTENSITIES] for channel in each] for each in facts]
    return Measures(
        _array([case["spacing"][::-1] for case in cases], (-1, 3)),
        _array([case["shape"][::-1] for case in cases], (-1, 3)),
        _array(intensities, (len(cases), channels, len(INTENSITIES))),
        _array([[channel["tissue"] for channel in each] for each in facts], (len(cases), channels)),
    )


def shown(value: float) -> str:
    """Return a number with three digits that count, and never as a power of ten below a million."""
    if not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def sides(values: Iterable[float]) -> str:
    """Return three sides as they are read: 512 by 512 by 96, with the sign for "times" between them."""
    return " \N{MULTIPLICATION SIGN} ".join(shown(value) for value in values)


def _array(values: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(shape)
