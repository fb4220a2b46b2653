"""Pictures of test cases: what the image shows, what is true, and what each arm has found."""

from __future__ import annotations

import ast
import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 300  # pixels
# Told apart with any colour vision on grey; in this order for the classes, and again from the first for a ninth.
COLOURS = ("#f0e442", "#56b4e9", "#e69f00", "#00c08b", "#ff8fcf", "#e8602c", "#4d8dff", "#b5e853")
_TRUTH = "#ffffff"
_LEVELS = 64  # of grey: as good to look at, and a third smaller
_ALIKE = 1.2  # spacings that differ by less than a fifth count as equal, and the plane is then the axial one
_ROOM = 0.35  # around what is segmented, as a share of its longer side
_PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Tile:
    """One picture, or why there is none."""

    title: str
    picture: str  # PNG, base64
    note: str = ""


@dataclass(frozen=True)
class Overlay:
    """The pictures of a case, all of the same part of the same slice."""

    where: str
    tiles: tuple[Tile, ...]
    blank: bool  # whether there was no image to draw on


@dataclass(frozen=True)
class _Plane:
    """A slice of a volume: rows from the top, columns from the left, and how to find it again."""

    axis: int | None
    index: int
    of: int
    spacing: tuple[float, float]  # of rows and columns, mm

    def cut(self, voxels: NDArray[Any]) -> NDArray[Any]:
        if self.axis is None:
            return voxels
        plane: NDArray[Any] = np.take(voxels, self.index, axis=self.axis)
        return plane[::-1] if self.axis else plane  # rows that run towards the head are drawn from the top


def find_file(folder: Path | None, stem: str) -> Path | None:
    """Return the file of a case, whatever its ending; of ``a.nii.gz`` and ``a.b.nii.gz`` the former is that of a."""
    if folder is None or not folder.is_dir():
        return None
    found = [path for path in folder.iterdir() if path.name.startswith(f"{stem}.") and path.is_file()]
    return min(found, key=lambda path: (len(path.name), path.name), default=None)


def draw_overlay(
    truth: Path, image: Path | None, predictions: Mapping[str, Path | None], classes: Sequence[str]
) -> Overlay:
    """Draw the slice in which most is labelled.

    Args:
        truth: the labels.
        image: what was segmented; without it contours are drawn over black.
        predictions: the file of each arm, if it has one.
        classes: the keys of the classes in nnU-Net's summary: a number, or several for a region.

    Raises:
        RuntimeError: SimpleITK cannot read the truth or the image.
    """
    labels, spacing = _read(truth)
    arms = {arm: _read(path)[0] if path else None for arm, path in predictions.items()}
    plane = _busiest(labels, spacing)
    grey = _grey(plane.cut(_read(image)[0])) if image else np.zeros(plane.cut(labels).shape, np.uint8)
    fits = grey.shape == plane.cut(labels).shape
    maps = {arm: plane.cut(found) for arm, found in arms.items() if found is not None and found.shape == labels.shape}
    window = _window([plane.cut(labels), *maps.values()], plane.spacing)
    canvas = _Canvas((grey if fits else np.zeros(plane.cut(labels).shape, np.uint8))[window], plane.spacing)

    wanted = [_values(key) for key in classes]
    true = canvas.outlines(plane.cut(labels)[window], wanted, 3)
    tiles = [Tile("image", canvas.png())] if image and fits else []
    tiles.append(Tile("truth", canvas.png(true)))
    for arm in predictions:
        if arm in maps:
            thin = canvas.outlines(plane.cut(labels)[window], wanted, 1)
            drawn = canvas.outlines(maps[arm][window], wanted, 3)
            tiles.append(Tile(arm, canvas.png(drawn, thin)))
        else:
            tiles.append(Tile(arm, "", "no prediction" if arms[arm] is None else "another size than the truth"))
    return Overlay(_where(plane), tuple(tiles), not (image and fits))


class _Canvas:
    """A piece of a slice at the size of the picture, with square pixels."""

    def __init__(self, grey: NDArray[np.uint8], spacing: tuple[float, float]) -> None:
        height, width = grey.shape[0] * spacing[0], grey.shape[1] * spacing[1]
        scale = LONGEST_SIDE / max(height, width)
        self._size = max(1, round(width * scale)), max(1, round(height * scale))
        resized = np.asarray(Image.fromarray(grey).resize(self._size, Image.Resampling.BICUBIC))
        self._grey = resized // (256 // _LEVELS)

    def outlines(self, labels: NDArray[Any], wanted: Sequence[Sequence[int]], width: int) -> list[NDArray[np.bool_]]:
        """Return the inner border of each class, along the borders of the voxels."""
        return [_border(self._resized(np.isin(labels, values)), width) for values in wanted]

    def png(self, outlines: Sequence[NDArray[np.bool_]] = (), truth: Sequence[NDArray[np.bool_]] = ()) -> str:
        """Return the picture with outlines in the colours of their classes, and those of the truth in white."""
        pixels = self._grey.copy()
        for outline in truth:
            pixels[outline] = _LEVELS
        for n, outline in enumerate(outlines):
            pixels[outline] = _LEVELS + 1 + n % len(COLOURS)
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.putpalette(_palette())
        file = io.BytesIO()
        picture.save(file, format="PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode("ascii")

    def _resized(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        large = Image.fromarray(mask.astype(np.uint8)).resize(self._size, Image.Resampling.NEAREST)
        return np.asarray(large).astype(bool)


def _read(path: Path) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Return voxels with axes from feet to head, front to back and right to left, and their spacing in that order."""
    image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() == 3:
        image = SimpleITK.DICOMOrient(image, "LPS")
    voxels = SimpleITK.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:  # the colours of a photograph
        voxels = voxels[..., :3].mean(axis=-1)
    return voxels, image.GetSpacing()[::-1]


def _busiest(labels: NDArray[Any], spacing: Sequence[float]) -> _Plane:
    """Return the slice with the most labelled voxels, across the coarsest axis: there a slice has its resolution."""
    if labels.ndim == 2:
        return _Plane(None, 0, 1, (spacing[0], spacing[1]))
    axis = next(n for n in range(3) if spacing[n] * _ALIKE >= max(spacing))
    labelled = (labels > 0).sum(axis=tuple(n for n in range(3) if n != axis))
    index = int(labelled.argmax()) if labelled.any() else labels.shape[axis] // 2
    rows, columns = (spacing[n] for n in range(3) if n != axis)
    return _Plane(axis, index, labels.shape[axis], (rows, columns))


def _window(maps: Sequence[NDArray[Any]], spacing: tuple[float, float]) -> tuple[slice, slice]:
    """Return the part of a slice that holds all that is labelled, with room around it and not too narrow."""
    labelled = np.any([found > 0 for found in maps], axis=0)
    if not labelled.any():
        return slice(None), slice(None)
    ends = [np.flatnonzero(labelled.any(axis=1 - axis))[[0, -1]] for axis in range(2)]
    longest = max((high - low + 1) * mm for (low, high), mm in zip(ends, spacing, strict=True))
    slices = []
    for (low, high), mm, length in zip(ends, spacing, labelled.shape, strict=True):
        side = (high - low + 1) * mm
        room = max(_ROOM * longest, (longest * (1 + 2 * _ROOM) * 0.8 - side) / 2) / mm
        slices.append(slice(max(0, int(low - room)), min(length, int(high + 1 + room + 1))))
    return slices[0], slices[1]


def _border(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    inner = np.pad(mask, width)  # beyond the picture there is nothing, so that outlines are closed
    for _ in range(width):
        inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    border: NDArray[np.bool_] = mask & ~inner[width:-width, width:-width]
    return border


def _grey(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch what lies between the 0.5 and 99.5 percentile over all grey levels."""
    values = np.nan_to_num(plane.astype(np.float32))
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:
        low, high = float(values.min()), float(max(values.max(), values.min() + 1))
    grey: NDArray[np.uint8] = np.round(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return grey


def _values(key: str) -> tuple[int, ...]:
    value = ast.literal_eval(key)
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _palette() -> list[int]:
    greys = [[round(255 * n / (_LEVELS - 1))] * 3 for n in range(_LEVELS)]
    drawn = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (_TRUTH, *COLOURS)]
    return [value for colour in [*greys, *drawn] for value in colour]


def _where(plane: _Plane) -> str:
    return "the image" if plane.axis is None else f"{_PLANES[plane.axis]} slice {plane.index + 1} of {plane.of}"
