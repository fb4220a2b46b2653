"""How an archive and a plan fit together, in numbers: what a user should know before hours are spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.networks.catalogue import describe_network
from nnunet_volf.plans import PlannedDataset
from nnunet_volf.pretext.catalogue import Method
from nnunet_volf.pretext.settings import PretrainingSettings
from nnunet_volf.pretext.volf.settings import VolFSettings

from .imported import read_manifest
from .orientation import REORIENTING, flipped

# Resampling by more than this invents or throws away detail that fine-tuning will see or not see.
MUCH_RESAMPLED = 1.5
# nnU-Net rounds patches up around the median case, so cases a little smaller are what it means to have. And the
# augmentation stretches crops to 1 / 0.7 of their size anyway.
MUCH_SMALLER = 0.7
# Below this many cases, "other case" partners and intensities repeat soon.
FEW_CASES = 20
# From this share on, scans that are stored on their head teach a turned foreground to be taken for the background.
MANY_ON_THEIR_HEAD = 0.02


@dataclass(frozen=True)
class Archive:
    """The numbers of all cases: (cases, 3) as (z, y, x), and tissue percentiles as (cases, channels, 3)."""

    shapes: NDArray[np.int64]
    spacings: NDArray[np.float64]
    tissue: NDArray[np.float64]  # 0.5, 50 and 99.5 percent
    orientations: tuple[str, ...]  # where the stored axes x, y and z run to, such as LPS

    @classmethod
    def read(cls, raw_folder: Path) -> Archive:
        """Read the manifest of an imported dataset."""
        entries = list(read_manifest(raw_folder))
        names = ("percentile_00_5", "median", "percentile_99_5")
        return cls(
            np.array([entry["shape"] for entry in entries], dtype=np.int64),
            np.array([entry["spacing"] for entry in entries], dtype=np.float64),
            np.array([[[channel[name] for name in names] for channel in entry["channels"]] for entry in entries]),
            tuple(entry["channels"][0]["orientation"] for entry in entries),
        )

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.shapes)


def shapes_after(archive: Archive, planned: PlannedDataset, configuration: str) -> NDArray[np.int64]:
    """Return the shape of each case as preprocessing will leave it, but for cropping, which makes it smaller."""
    order = planned.plans["transpose_forward"]
    shapes, spacings = archive.shapes[:, order], archive.spacings[:, order]
    wanted = spacings.copy()
    target = planned.configuration(configuration)["spacing"]
    wanted[:, -len(target) :] = target  # 2D leaves the spacing between slices alone
    after: NDArray[np.int64] = np.maximum(1, np.rint(spacings / wanted * shapes)).astype(np.int64)
    return after


def warnings(archive: Archive, planned: PlannedDataset, configuration: str, method: Method) -> list[str]:
    """Return what does not fit well, worst first; nothing is refused here."""
    plan = planned.configuration(configuration)
    return [
        *_few(archive),
        *_on_their_head(archive, planned, plan, planned.settings(configuration, method=method)),
        *_intensities(archive, plan, planned.plans["foreground_intensity_properties_per_channel"]),
        *_spacings(archive, planned, plan),
        *_sizes(shapes_after(archive, planned, configuration), plan["patch_size"]),
    ]


def _few(archive: Archive) -> Iterator[str]:
    if len(archive) < FEW_CASES:
        yield f"only {len(archive)} cases: pretraining lives on many"


def _on_their_head(
    archive: Archive, planned: PlannedDataset, plan: dict[str, Any], settings: PretrainingSettings
) -> Iterator[str]:
    if not (isinstance(settings, VolFSettings) and settings.turned):
        return
    if planned.plans["image_reader_writer"].endswith(REORIENTING):
        return
    axes = planned.plans["transpose_forward"][-len(plan["patch_size"]) :]  # in 2D those within a slice
    stored = Counter(archive.orientations)
    for usual, count in stored.items():
        other = flipped(usual, axes)
        if MANY_ON_THEIR_HEAD * len(archive) <= stored[other] and (stored[other], other) < (count, usual):
            yield (
                f"{count} cases are stored {usual} and {stored[other]} cases {other}, which is the same on its head: "
                "the turned foreground of the ones looks like the background of the others. Set turned=false, or plan "
                "for a dataset with a reader that brings the axes into one order (nnU-Net's NibabelIO"
                f"{REORIENTING})"
            )


def _spacings(archive: Archive, planned: PlannedDataset, plan: dict[str, Any]) -> Iterator[str]:
    order = planned.plans["transpose_forward"][-len(plan["spacing"]) :]
    median = np.median(archive.spacings, axis=0)[order]
    for own, wanted, axis in zip(median, plan["spacing"], order, strict=True):
        ratio = own / wanted
        if not 1 / MUCH_RESAMPLED <= ratio <= MUCH_RESAMPLED:
            finer = "finer: detail is lost" if ratio < 1 else "coarser: detail is interpolated, not seen"
            yield (
                f"spacing along axis {'zyx'[axis]}: the archive's median is {own:.3g} mm and the plan resamples to "
                f"{wanted:.3g} mm; the archive is {max(ratio, 1 / ratio):.1f} times {finer}"
            )


def _sizes(shapes: NDArray[np.int64], patch: Sequence[int]) -> Iterator[str]:
    smaller = (shapes[:, -len(patch) :] < MUCH_SMALLER * np.array(patch)).any(axis=1)
    if smaller.any():
        yield (
            f"{smaller.mean():.0%} of the cases are much smaller than the patch {tuple(patch)} along some axis (less "
            f"than {MUCH_SMALLER:g} of it); their crops are stretched to it"
        )


def _intensities(archive: Archive, plan: dict[str, Any], statistics: dict[str, dict[str, float]]) -> Iterator[str]:
    """A plan that normalises with fixed numbers (CT) needs an archive in the same unit."""
    for number, scheme in enumerate(plan["normalization_schemes"]):
        if scheme != "CTNormalization":
            continue
        low, high = (statistics[str(number)][name] for name in ("percentile_00_5", "percentile_99_5"))
        medians = archive.tissue[:, number, 1]
        outside = (medians < low) | (medians > high)
        if outside.mean() > 0.05:
            yield (
                f"channel {number}: the plan clips to {low:.0f} ... {high:.0f}, and in {outside.mean():.0%} of the "
                f"cases half of all tissue lies beyond (the archive's median tissue is {np.median(medians):.0f}). Is "
                "this the same modality, in Hounsfield units?"
            )


def describe(archive: Archive, planned: PlannedDataset, configuration: str, method: Method) -> list[tuple[str, str]]:
    """Return what a plan means, as rows of a table."""
    plan = planned.configuration(configuration)
    settings = planned.settings(configuration, method=method)
    shapes = shapes_after(archive, planned, configuration)
    median = tuple(int(side) for side in np.median(shapes, axis=0))
    steps = settings.epochs * settings.iterations
    crops = method.crops * steps * plan["batch_size"]
    return [
        ("cases", f"{len(archive)}, {median} voxels in the median once resampled"),
        *describe_plan(plan),
        ("training", f"{settings.epochs} epochs of {settings.iterations} steps = {steps:,} steps"),
        ("crops", f"about {crops / len(archive):,.0f} of each case over the whole training"),
    ]


def describe_plan(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a configuration (with what it inherits) means whatever it is used for, as rows of a table."""
    patch, spacing = plan["patch_size"], plan["spacing"]
    extent = " x ".join(f"{side * step:.0f}" for side, step in zip(patch, spacing, strict=True))
    normalisation = ", ".join(scheme.removesuffix("Normalization") for scheme in plan["normalization_schemes"])
    return [
        ("spacing", f"{' x '.join(f'{step:.3g}' for step in spacing)} mm"),
        ("patch", f"{tuple(patch)} voxels, {extent} mm; {plan['batch_size']} of them a step"),
        ("normalisation", normalisation),
        ("network", describe_network(plan["architecture"])),
    ]
