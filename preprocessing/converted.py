"""Images that had to be converted: DICOM series, volumes out of a time series, channels brought onto one grid."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import SimpleITK

from nnunet_volf.files import replacing

from .volumes import Volume

FOLDER = "converted"
# zlib's fastest: on CT and MR the next levels save a few percent and take several times as long.
_LEVEL = 1


def write_converted(folder: Path, volume: Volume, content: str) -> Path:
    """Write a volume as NIfTI under a name made of its content and grid, whole or not at all, and return its path."""
    grid = repr((content, volume.spacing, volume.origin, volume.direction))
    path = folder / f"{blake2b(grid.encode(), digest_size=8).hexdigest()}.nii.gz"
    unfinished = folder / f".{path.stem}.{os.getpid()}.nii.gz"
    with replacing(path, unfinished):
        folder.mkdir(exist_ok=True)  # the dataset's own is there, or its disk is gone
        SimpleITK.WriteImage(to_image(volume), str(unfinished), useCompression=True, compressionLevel=_LEVEL)
        _require_whole(unfinished, volume.voxels.nbytes)
    return path


def _require_whole(path: Path, size: int) -> None:
    """Refuse a compressed file with fewer voxels than were to be written: ITK says nothing where a disk is full."""
    written = 0
    with gzip.open(path) as file:
        while block := file.read(1 << 20):
            written += len(block)
    if written < size:
        raise EOFError(f"{path.name} holds {written} of {size} bytes of voxels.")


def to_image(volume: Volume) -> SimpleITK.Image:
    """Return a volume as SimpleITK has it."""
    image = SimpleITK.GetImageFromArray(volume.voxels)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction)
    return image


def remove_others(folder: Path, kept: Iterable[str]) -> None:
    """Remove converted images that nothing refers to any more: of series that have been deleted, of other options."""
    names = {Path(path).name for path in kept}
    for path in folder.glob("*.nii.gz") if folder.is_dir() else []:
        if path.name not in names:
            path.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what runs that were killed have left."""
    for path in folder.glob(".*.nii.gz") if folder.is_dir() else []:
        path.unlink(missing_ok=True)
