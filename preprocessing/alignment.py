"""Channels of one subject on different grids: bring them onto the first one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK

from .checks import audit
from .converted import to_image, write_converted
from .refusals import Refused
from .volumes import Volume, read_volume


@dataclass(frozen=True)
class AlignTask:
    """The images of a subject, the first of which gives the grid."""

    key: str
    signature: str
    paths: tuple[str, ...]
    converted: str

    @classmethod
    def of(cls, images: Sequence[Mapping[str, Any]], converted: str) -> AlignTask:
        """Return the task for a subject's images."""
        paths = tuple(str(image["path"]) for image in images)
        grids = [(image["facts"]["content"], image["facts"]["spacing"], image["grid"]) for image in images]
        return cls("align:" + "|".join(paths), repr(grids), paths, converted)


def align(task: AlignTask) -> list[dict[str, Any]]:
    """Return for each channel what has changed: nothing for the first, a converted image for the others."""
    first = read_volume(Path(task.paths[0]))
    changes: list[dict[str, Any]] = [{}]
    for path in task.paths[1:]:
        volume = onto_grid(read_volume(Path(path)), first)
        facts = audit(volume).to_mapping()
        written = write_converted(Path(task.converted), volume, facts["content"])
        grid = [*volume.origin, *volume.direction]
        changes.append({"path": str(written), "converted": True, "facts": facts, "grid": grid})
    return changes


def onto_grid(volume: Volume, target: Volume) -> Volume:
    """Resample a volume linearly; voxels outside it get its smallest value."""
    image, grid = SimpleITK.Cast(to_image(volume), SimpleITK.sitkFloat32), to_image(target)
    outside = float(volume.voxels.min())
    moved = SimpleITK.Resample(image, grid, SimpleITK.Transform(), SimpleITK.sitkLinear, outside)
    voxels = SimpleITK.GetArrayFromImage(moved)
    if voxels.min() == voxels.max():
        raise Refused(
            "grids",
            "The channels of this subject do not overlap in space: one of them is empty on the first one's grid.",
            "Register them with each other first, or import one channel.",
        )
    note = f"resampled from {volume.voxels.shape} to {target.voxels.shape} voxels, the first channel's grid"
    return Volume(voxels, target.spacing, target.origin, target.direction, (*volume.notes, note))
