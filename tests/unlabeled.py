"""A small archive of phantoms without labels, on disk and imported: what the tests of later stages start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_volf.cli import main
from nnunet_volf.phantoms import make_phantom

NUMBER, NAME = 501, "Dataset501_Archive"


def write_scans(
    folder: Path,
    cases: int,
    shape: Sequence[int] = (22, 34, 28),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    channels: int = 1,
    first_seed: int = 100,
) -> None:
    """Write scan_000_t0.nii.gz ..., of sizes that vary by a voxel or two; spacing is (z, y, x)."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in range(cases):
        rng = np.random.default_rng(first_seed + case)
        images, _ = make_phantom(rng, [int(n + rng.integers(-2, 3)) for n in shape], channels)
        for channel, voxels in enumerate(images):
            image = SimpleITK.GetImageFromArray(voxels)
            image.SetSpacing([float(step) for step in reversed(spacing)])
            SimpleITK.WriteImage(image, str(folder / f"scan_{case:03d}_t{channel}.nii.gz"))


def import_scans(folder: Path, *arguments: str) -> None:
    """Import a folder as dataset 501, in this process."""
    assert main(["import", str(folder), "-d", str(NUMBER), "-n", "Archive", "-np", "0", *arguments]) == 0
