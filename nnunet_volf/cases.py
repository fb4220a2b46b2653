"""Preprocessed cases without their labels: nnU-Net's files, of which only the images are opened."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import blosc2
import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from torch import Tensor

from nnunet_volf.augment import Window
from nnunet_volf.case_notes import CASE_KEY, LOCATIONS_KEY, noted
from nnunet_volf.damaged_cases import DamagedCase
from nnunet_volf.errors import DataError
from nnunet_volf.patience import own_fault, read_patiently

Read = TypeVar("Read")

# Of a file that is gone through as a whole.
_SLAB_VOXELS = 1 << 24


@dataclass(frozen=True)
class CaseImage:
    """An opened image (c, x, y, z) from which crops are read."""

    identifier: str
    path: Path
    array: Any

    @property
    def volume(self) -> tuple[int, ...]:
        """The spatial shape."""
        return tuple(self.array.shape[1:])

    @property
    def content(self) -> str | None:
        """The hash of the voxels that the case was made from, or None where our preprocessing has not noted it."""
        origin = self._noted(CASE_KEY)
        return origin.get("content") if isinstance(origin, dict) else None

    def draw_tissue(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """Draw a voxel that shows tissue, or None where our preprocessing has not stored any."""
        stored = self._noted(LOCATIONS_KEY)
        if stored is None:
            return None
        locations = self._told(lambda: np.frombuffer(stored, np.uint16).reshape(-1, len(self.volume)), "its notes")
        if not len(locations):
            return None
        voxel = tuple(locations[int(rng.integers(len(locations)))].tolist())
        if any(at >= side for at, side in zip(voxel, self.volume, strict=True)):
            raise DamagedCase(self.identifier, self.path, f"notes tissue at {voxel}, outside its {self.volume} voxels.")
        return voxel

    def _noted(self, key: str) -> Any:
        """Return what our preprocessing has noted, or None for a numpy array, or a file of nnU-Net's."""
        schunk = getattr(self.array, "schunk", None)
        return None if schunk is None else self._told(lambda: noted(schunk, key), "its notes")

    def _told(self, read: Callable[[], Read], what: str) -> Read:
        return told_of_case(read, self.identifier, self.path, f"cannot be read at {what}")

    def read(self, window: Window) -> Tensor:
        """Return the crop (c, *window) as float32; what lies outside the volume is padded with 0, as nnU-Net does."""
        return self.read_showing(window)[0]

    def read_showing(self, window: Window) -> tuple[Tensor, bool]:
        """Return the crop as `read` does, and whether it shows anything but one intensity."""
        box = [[a, a + n] for a, n in zip(window.start, window.size, strict=True)]

        def crop() -> np.ndarray[Any, np.dtype[np.float32]]:
            return np.ascontiguousarray(crop_and_pad_nd(self.array, box, 0), dtype=np.float32)

        voxels = self._told(crop, f"voxels {box}")
        tensor = torch.from_numpy(voxels if voxels.flags.writeable else voxels.copy())
        low, high = tensor.aminmax()  # one pass tells both whether all is finite and whether anything shows
        if not torch.isfinite(low) or not torch.isfinite(high):
            raise DamagedCase(
                self.identifier,
                self.path,
                f"holds NaN or infinite voxels within {box}; one makes the loss of a whole batch NaN.",
            )
        return tensor, bool(high > low)

    def require_sound(self) -> None:
        """Read everything; raise `DamagedCase` where that fails."""
        self._noted(CASE_KEY)
        self.draw_tissue(np.random.default_rng(0))
        first, *others = self.volume
        step = max(1, _SLAB_VOXELS // max(1, math.prod(others)))
        for start in range(0, first, step):
            self.read(Window((start, *[0] * len(others)), (min(step, first - start), *others)))


class UnlabeledCases:
    """The images of a folder of preprocessed cases; segmentations are not needed and never opened."""

    def __init__(self, folder: str | Path, identifiers: Sequence[str], left_out: Container[str] = ()) -> None:
        """Take the cases of a folder.

        Args:
            folder: where they are.
            identifiers: which of them.
            left_out: those that are not opened any more; may grow.
        """
        self.folder = Path(folder)
        self.left_out = left_out
        # A case listed twice would seek another for ever; and nnU-Net hands out numpy strings.
        self.identifiers = sorted({str(identifier) for identifier in identifiers})
        if not self.identifiers:
            raise DataError(
                f"There is no case to pretrain on in {self.folder}. Preprocess the dataset for this configuration "
                "first (nnunet-volf preprocess, or nnUNetv2_preprocess where there are labels), or choose a fold that "
                "has training cases."
            )

    def open(self, identifier: str) -> CaseImage:
        """Open the image of a case; only what is read from it is decompressed."""
        if identifier in self.left_out:
            raise DamagedCase(identifier, self.folder, "is left out.")
        try:
            path = read_patiently(lambda: self._file_of(identifier), self.folder / identifier)
        except FileNotFoundError as error:
            advice = "Preprocess the dataset again, or take the case out of splits_final.json."
            raise DamagedCase(
                identifier, self.folder, f"holds none of {', '.join(_names(identifier))}.", advice
            ) from error
        opener = _OPENERS[path.suffix]
        return CaseImage(
            identifier, path, told_of_case(lambda: opener(str(path)), identifier, path, "cannot be opened")
        )

    def _file_of(self, identifier: str) -> Path:
        for name in _names(identifier):
            if (self.folder / name).is_file():
                return self.folder / name
        raise FileNotFoundError(identifier)

    def can_open(self, identifier: str) -> bool:
        """Return whether a case is there and can be opened; what it holds may be damaged all the same."""
        try:
            self.open(identifier)
        except DamagedCase:
            return False
        return True


def is_sound(folder: Path, identifier: str) -> bool:
    """Return whether a case is there and everything in it can be read."""
    try:
        UnlabeledCases(folder, [identifier]).open(identifier).require_sound()
    except DamagedCase:
        return False
    return True


def told_of_case(read: Callable[[], Read], identifier: str, path: Path, failed: str) -> Read:
    """Return what is read of a case, or raise `DamagedCase`, which says of which."""
    try:
        return read_patiently(read, path)
    except Exception as error:
        if own_fault(error):  # would be met with any other case, too
            raise
        raise DamagedCase(identifier, path, f"{failed} ({type(error).__name__}: {error}).") from error


def _names(identifier: str) -> list[str]:
    return [f"{identifier}{ending}" for ending in _OPENERS]


def _open_blosc2(path: str) -> Any:
    # Memory-mapping blosc2 files does not work on Windows (nnU-Net issue 2723).
    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}
    array = blosc2.open(urlpath=path, mode="r", dparams={"nthreads": 1}, **mapped)
    chunks = math.prod(-(-side // chunk) for side, chunk in zip(array.shape, array.chunks, strict=True))
    if chunks != array.schunk.nchunks:  # a size that was damaged would have crops read where there is nothing
        raise ValueError(f"its size {array.shape} is of {chunks} chunks, and it holds {array.schunk.nchunks}")
    return array


def _open_numpy(path: str) -> Any:
    return np.load(path, mmap_mode="r")


def _open_numpy_archive(path: str) -> Any:
    with Path(path).open("rb") as file, np.load(file) as archive:  # np.load leaves a damaged archive open
        return archive["data"]


# nnU-Net's formats, in the order in which they are looked for: a .npy is the unpacked and faster twin of a .npz.
_OPENERS = {".b2nd": _open_blosc2, ".npy": _open_numpy, ".npz": _open_numpy_archive}
