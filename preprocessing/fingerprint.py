"""nnU-Net's dataset fingerprint without labels: tissue found by a body mask stands in for the labelled voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from numpy.typing import NDArray

from nnunet_volf.errors import DataError

from .imported import ImportedCase, ImportedDataset
from .parallel import Done, run_parallel
from .progress import show
from .tissue import tissue_values
from .volumes import read_volume

# Cases that are read when an archive is large. Medians of spacing and size settle long before: their standard error
# at 300 cases is 1.25 / sqrt(300) = 7 % of the spread between cases.
SAMPLE = 300
# Voxels a case; nnU-Net takes 1e8 over all cases, which is 3e5 a case at 300.
VALUES = 20_000


@dataclass(frozen=True)
class Fingerprint:
    """What nnU-Net's planners look at, as (z, y, x), and of which cases it was taken."""

    spacings: tuple[tuple[float, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    intensities: Mapping[str, Mapping[str, float]]  # by channel number
    relative_size: float  # median share of a volume that cropping to nonzero leaves
    sampled: int

    def to_mapping(self) -> dict[str, Any]:
        """Return the content of dataset_fingerprint.json."""
        return {
            "spacings": self.spacings,
            "shapes_after_crop": self.shapes,
            "foreground_intensity_properties_per_channel": self.intensities,
            "median_relative_size_after_cropping": self.relative_size,
        }


@dataclass(frozen=True)
class _Look:
    shape: tuple[int, ...]
    relative_size: float
    values: list[NDArray[np.float32]]  # a channel each


def sample_cases(cases: Sequence[ImportedCase], most: int) -> list[ImportedCase]:
    """Return at most so many cases, evenly over their names, which are hashes: a random sample that stays the same."""
    if len(cases) <= most:
        return list(cases)
    return [cases[int(number)] for number in np.linspace(0, len(cases) - 1, most)]


def take_fingerprint(dataset: ImportedDataset, most: int = SAMPLE, workers: int = 1) -> Fingerprint:
    """Read a sample of the cases and describe it."""
    cases = sample_cases(dataset.cases, most)
    running = run_parallel(look, cases, workers=workers, preload=("nnunet_volf.preprocessing.fingerprint",))
    done: list[Done[ImportedCase, _Look]] = list(show(running, len(cases), "Reading a sample of cases"))
    looks = sorted(((one.task, one.result) for one in done if one.result is not None), key=lambda pair: pair[0].name)
    if not looks:
        reason = done[0].failure
        raise DataError(f"None of the {len(cases)} cases of {dataset.name} that were tried could be read: {reason}")
    channels = range(len(dataset.channel_names))
    values = [np.concatenate([look.values[channel] for _, look in looks]) for channel in channels]
    return Fingerprint(
        spacings=tuple(case.spacing for case, _ in looks),
        shapes=tuple(look.shape for _, look in looks),
        intensities={str(channel): describe_values(values[channel]) for channel in channels},
        relative_size=float(np.median([look.relative_size for _, look in looks])),
        sampled=len(looks),
    )


def fingerprint_like(dataset: ImportedDataset, plans: Mapping[str, Any], most: int = SAMPLE) -> Fingerprint:
    """Return a fingerprint beside carried-over plans, which decide nothing by it: our grids, the target's tissue."""
    cases = sample_cases(dataset.cases, most)
    return Fingerprint(
        spacings=tuple(case.spacing for case in cases),
        shapes=tuple(case.shape for case in cases),
        intensities=plans["foreground_intensity_properties_per_channel"],
        relative_size=1.0,
        sampled=len(cases),
    )


def look(case: ImportedCase) -> _Look:
    """Read one case, crop it as nnU-Net does, and take values of its tissue."""
    images = np.stack([read_volume(Path(path)).voxels.astype(np.float32) for path in case.images])
    cropped, _, _ = crop_to_nonzero(images)
    # Samples are as large for small cases as for large ones, with repetition: each case counts the same, as in nnU-Net.
    rng = np.random.default_rng(1234)
    values = [rng.choice(tissue_values(channel, 1234, VALUES), VALUES).astype(np.float32) for channel in cropped]
    return _Look(tuple(cropped.shape[1:]), float(cropped[0].size / images[0].size), values)


def describe_values(values: NDArray[np.float32]) -> dict[str, float]:
    """Return the statistics that nnU-Net keeps of a channel."""
    low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
    return {
        "mean": float(np.mean(values, dtype=np.float64)),
        "median": float(median),
        "std": float(np.std(values, dtype=np.float64)),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_99_5": float(high),
        "percentile_00_5": float(low),
    }
