"""One image as stored, whatever the format: read with SimpleITK, or with nibabel where SimpleITK refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """A scalar image of three dimensions and where it lies in the patient (ITK's LPS millimetres)."""

    voxels: NDArray[Any]  # (z, y, x), as SimpleITK and nnU-Net's readers order them
    spacing: tuple[float, float, float]  # of x, y, z
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # rows of the 3 x 3 matrix
    notes: tuple[str, ...] = field(default=())  # what a user should know although the image is fine


def read_volume(path: Path) -> Volume:
    """Read a NIfTI, NRRD or MetaImage file; what cannot be a scalar volume raises Refused."""
    raise NotImplementedError
