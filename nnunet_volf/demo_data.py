"""What the demo starts from: a folder of scans without labels, and a small labelled dataset, both of made-up bodies."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from nnunet_volf.anatomy import class_names, draw_body, render

_FIELD_OF_VIEW = (40.0, 34.0, 42.0)  # mm; most of a trunk
_ENDINGS = (".nii.gz", ".nrrd", ".mha")
_ARCHIVE_SEED, _LABELLED_SEED = 1, 2
_ORGANS = 3  # both kidneys and the liver


def write_archive(folder: Path, scans: int, labelled: Path) -> None:
    """Write scans in three formats, a copy of a labelled scan as archives have them, and a file that is no scan."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(scans):
        image, _, spacing = _scan(_ARCHIVE_SEED, number)
        _write(folder / f"scan_{number:03d}{_ENDINGS[number % len(_ENDINGS)]}", image, spacing)
    known = sorted((labelled / "imagesTr").iterdir())[0]
    (folder / "copy_of_a_labelled_scan.nii.gz").write_bytes(known.read_bytes())
    (folder / "broken.nii.gz").write_bytes(b"this was a scan once")


def write_labelled(folder: Path, cases: int) -> None:
    """Write a raw nnU-Net dataset."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(case_names(cases)):
        image, labels, spacing = _scan(_LABELLED_SEED, number)
        _write(folder / "imagesTr" / f"{name}_0000.nii.gz", image, spacing)
        _write(folder / "labelsTr" / f"{name}.nii.gz", labels, spacing)
    description = {
        "channel_names": {"0": "made-up scan"},
        "labels": class_names(_ORGANS),
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=4), encoding="utf-8")


def case_names(cases: int) -> list[str]:
    """Return the names of the labelled cases."""
    return [f"case_{number:03d}" for number in range(cases)]


def _scan(seed: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[float, ...]]:
    rng = np.random.default_rng([seed, number])
    spacing = (float(rng.uniform(1.6, 2.0)), *(float(rng.uniform(1.4, 1.6)) for _ in range(2)))
    shape = [math.ceil(extent / step) for extent, step in zip(_FIELD_OF_VIEW, spacing, strict=True)]
    return *render(draw_body(rng, _ORGANS), shape, spacing), spacing


def _write(path: Path, volume: NDArray[np.float32] | NDArray[np.uint8], spacing: tuple[float, ...]) -> None:
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing(tuple(reversed(spacing)))  # SimpleITK counts axes from the other end
    SimpleITK.WriteImage(image, str(path))
