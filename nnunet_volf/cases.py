"""Preprocessed cases without their labels: nnU-Net's files, of which only the images are opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from torch import Tensor

from nnunet_volf.augment import Window
from nnunet_volf.case_notes import CASE_KEY, LOCATIONS_KEY
from nnunet_volf.errors import DataError


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
        try:
            content: str = self.array.schunk.vlmeta[CASE_KEY]["content"]
        except (AttributeError, KeyError):  # a numpy array, or preprocessed by nnU-Net
            return None
        return content

    def draw_tissue(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """Draw a voxel that shows tissue, or None where our preprocessing has not stored any."""
        try:
            stored = self.array.schunk.vlmeta[LOCATIONS_KEY]
        except (AttributeError, KeyError):  # a numpy array, or preprocessed by nnU-Net
            return None
        locations = np.frombuffer(stored, dtype=np.uint16).reshape(-1, len(self.volume))
        return tuple(locations[int(rng.integers(len(locations)))].tolist()) if len(locations) else None

    def read(self, window: Window) -> Tensor:
        """Return the crop (c, *window) as float32; what lies outside the volume is padded with 0, as nnU-Net does."""
        return self.read_showing(window)[0]

    def read_showing(self, window: Window) -> tuple[Tensor, bool]:
        """Return the crop as `read` does, and whether it shows anything but one intensity."""
        box = [[a, a + n] for a, n in zip(window.start, window.size, strict=True)]
        try:
            crop = np.ascontiguousarray(crop_and_pad_nd(self.array, box, 0), dtype=np.float32)
        except Exception as error:
            raise DataError(
                f"Case {self.identifier}: reading voxels {box} of {self.path} failed "
                f"({type(error).__name__}: {error}). The file is damaged; delete it and preprocess the case again."
            ) from error
        tensor = torch.from_numpy(crop if crop.flags.writeable else crop.copy())
        low, high = tensor.aminmax()  # one pass tells both whether all is finite and whether anything shows
        if not torch.isfinite(low) or not torch.isfinite(high):
            raise DataError(
                f"Case {self.identifier}: {self.path} holds NaN or infinite voxels within {box}. Repair or remove the "
                "case and preprocess again: one such voxel makes the loss of a whole batch NaN."
            )
        return tensor, bool(high > low)


class UnlabeledCases:
    """The images of a folder of preprocessed cases; segmentations are not needed and never opened."""

    def __init__(self, folder: str | Path, identifiers: Sequence[str]) -> None:
        self.folder = Path(folder)
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
        for ending, opener in _OPENERS.items():
            path = self.folder / f"{identifier}{ending}"
            if not path.is_file():
                continue
            try:
                return CaseImage(identifier, path, opener(str(path)))
            except Exception as error:
                raise DataError(
                    f"Case {identifier}: {path} cannot be opened ({type(error).__name__}: {error}). Delete it and "
                    "preprocess the case again."
                ) from error
        raise DataError(
            f"Case {identifier}: none of {', '.join(f'{identifier}{ending}' for ending in _OPENERS)} is in "
            f"{self.folder}. Preprocess the dataset again, or take the case out of splits_final.json."
        )


def _open_blosc2(path: str) -> Any:
    # Memory-mapping blosc2 files does not work on Windows (nnU-Net issue 2723).
    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}
    return blosc2.open(urlpath=path, mode="r", dparams={"nthreads": 1}, **mapped)


def _open_numpy(path: str) -> Any:
    return np.load(path, mmap_mode="r")


def _open_numpy_archive(path: str) -> Any:
    with Path(path).open("rb") as file, np.load(file) as archive:  # np.load leaves a damaged archive open
        return archive["data"]


# nnU-Net's formats, in the order in which they are looked for: a .npy is the unpacked and faster twin of a .npz.
_OPENERS = {".b2nd": _open_blosc2, ".npy": _open_numpy, ".npz": _open_numpy_archive}
