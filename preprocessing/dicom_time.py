"""Dynamic and functional DICOM series: many volumes of one place, which would outweigh all other scans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .dicom_series import DicomPolicy, Series
from .dicom_volume import load_series
from .refusals import Refused
from .volumes import Volume

# Echoes, phases and contrasts of one series are fewer than this and differ; time points are more and hardly do.
MOST_VOLUMES = 8


def by_time(series: Sequence[Series], time: str) -> tuple[list[tuple[Series, ...]], list[tuple[Series, Refused]]]:
    """Return which stacks become a volume together: each its own, or by `time` the first or the mean of very many."""
    of_one: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        of_one[one.slices[0].header.series].append(one)
    groups: list[tuple[Series, ...]] = []
    left_out = []
    for stacks in of_one.values():
        if len(stacks) <= MOST_VOLUMES:
            groups += [(one,) for one in stacks]
        elif time == "refuse":
            left_out.append((stacks[0], _many(len(stacks))))
        else:
            groups.append(tuple(stacks) if time == "mean" else (stacks[0],))
    return groups, left_out


def load_together(stacks: Sequence[Series], policy: DicomPolicy) -> Volume:
    """Load a stack, or the mean of several on one grid."""
    first = load_series(stacks[0], policy)
    if len(stacks) == 1:
        return first
    total = first.voxels.astype(np.float64)
    for one in stacks[1:]:
        voxels = load_series(one, policy).voxels
        if voxels.shape != total.shape:
            raise Refused(
                "dimensions",
                f"Its {len(stacks)} time points have different sizes: {total.shape} and {voxels.shape} voxels.",
                "Take the first with --time first.",
            )
        total += voxels
    note = f"the mean of {len(stacks)} time points"
    return replace(first, voxels=(total / len(stacks)).astype(np.float32), notes=(*first.notes, note))


def _many(count: int) -> Refused:
    return Refused(
        "dimensions",
        f"It is a series of {count} volumes of one place, such as a dynamic or functional scan.",
        "Take the first with --time first, or their mean with --time mean.",
    )
