"""What the scripts that write a task have in common: a raw dataset, its one split, and images without labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

ENDING = ".nii.gz"


def folders(dataset: str) -> tuple[Path, Path]:
    """Return where nnU-Net looks for a dataset, raw and preprocessed."""
    raw, preprocessed = (Path(os.environ[name]) / dataset for name in ("nnUNet_raw", "nnUNet_preprocessed"))
    return raw, preprocessed


def number_of(dataset: str) -> int:
    """Return the number in a dataset's name."""
    return int(dataset[len("Dataset") : len("Dataset") + 3])


def write_description(raw: Path, channels: Sequence[str], labels: Mapping[str, int], cases: int) -> None:
    """Write nnU-Net's dataset.json."""
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": dict(labels),
        "numTraining": cases,
        "file_ending": ENDING,
    }
    (raw / "dataset.json").write_text(json.dumps(description, indent=4), encoding="utf-8")


def write_split(preprocessed: Path, training: Sequence[str], test: Sequence[str]) -> None:
    """Write one fold: `nnunet-volf benchmark` draws from its training cases, and tests on its validation cases."""
    preprocessed.mkdir(parents=True, exist_ok=True)
    split = json.dumps([{"train": list(training), "val": list(test)}], indent=4)
    (preprocessed / "splits_final.json").write_text(split, encoding="utf-8")


def write_volume(path: Path, volume: NDArray[np.int16] | NDArray[np.uint8], spacing: Sequence[float]) -> None:
    """Write one volume whose axes and spacing are those of an array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing([float(step) for step in reversed(spacing)])  # SimpleITK counts axes from the other end
    SimpleITK.WriteImage(image, str(path))
