"""Small labelled volumes to try things on: two ellipsoids in a smooth random texture, as an nnU-Net raw dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

LABELS = {"background": 0, "large": 1, "small": 2}
_WAVES = 12


def make_phantom(
    rng: np.random.Generator, shape: Sequence[int], channels: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return images (channels, *shape) and labels (*shape); contrast varies from case to case, anatomy does little."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    axes = len(shape)
    labels = np.zeros(tuple(shape), dtype=np.uint8)
    for name, centre, radius in (("large", -0.25, 0.5), ("small", 0.45, 0.3)):
        middle = centre + rng.normal(0, 0.06, size=axes)
        radii = radius * rng.uniform(0.8, 1.2, size=axes)
        offset = (grid - middle.reshape(-1, *[1] * axes)) / radii.reshape(-1, *[1] * axes)
        labels[(offset**2).sum(0) < 1] = LABELS[name]

    images = []
    for _ in range(channels):
        frequencies = rng.normal(0, 4, size=(_WAVES, axes))
        phases = rng.uniform(0, 2 * np.pi, size=_WAVES)
        texture = sum(np.cos(np.tensordot(f, grid, axes=1) + p) for f, p in zip(frequencies, phases, strict=True))
        brightness = rng.uniform(2.0, 4.0, size=len(LABELS)) * np.array([0.0, 1.0, -1.0])
        noise = rng.normal(0, 0.3, size=shape)
        images.append((100 + 10 * (texture / np.sqrt(_WAVES) + brightness[labels] + noise)).astype(np.float32))
    return np.stack(images), labels


def write_phantom_dataset(
    raw: Path,
    name: str,
    cases: int,
    shape: Sequence[int],
    channels: int = 1,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    seed: int = 0,
) -> Path:
    """Write a raw dataset such as ``Dataset901_Phantom`` and return its folder; sizes vary by a few voxels."""
    rng = np.random.default_rng(seed)
    folder = raw / name
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for case in range(cases):
        images, labels = make_phantom(rng, [int(n + rng.integers(-2, 3)) for n in shape], channels)
        for channel, image in enumerate(images):
            _write(folder / "imagesTr" / f"case_{case:03d}_{channel:04d}.nii.gz", image, spacing)
        _write(folder / "labelsTr" / f"case_{case:03d}.nii.gz", labels, spacing)
    description = {
        "channel_names": {str(channel): f"phantom{channel}" for channel in range(channels)},
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
    return folder


def _write(path: Path, volume: NDArray[np.float32] | NDArray[np.uint8], spacing: Sequence[float]) -> None:
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing([float(s) for s in reversed(spacing)])  # SimpleITK counts axes from the other end
    SimpleITK.WriteImage(image, str(path))
