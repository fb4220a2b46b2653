"""Which way the axes of an image run through the patient, to the nearest 90 degrees."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .volumes import Volume

REORIENTING = "WithReorient"  # how the names end of nnU-Net's readers that bring the axes of all images into one order

_TOWARDS = (("L", "R"), ("P", "A"), ("S", "I"))  # ITK's world axes point left, back and up

# At 45 degrees an axis is as near to one world axis as to the other. The world is turned by a hair before it is
# compared, so that the choice depends on how the image lies in the patient, not on how its axes are stored. The angles
# (radians) are far above the rounding of headers, and no scanner is set to an angle that makes up for them.
_HAIR = (0.0011, 0.0017, 0.0023)


def nearest_axes(direction: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """Return, for the world axes left, back and up, the image axis (of x, y, z) nearest to it and its sign."""
    turned = _slightly_turned(np.asarray(direction, np.float64).reshape(3, 3))
    best = max(permutations(range(3)), key=lambda axes: sum(abs(turned[w, a]) for w, a in enumerate(axes)))
    return tuple((a, 1 if turned[w, a] > 0 else -1) for w, a in enumerate(best))


def orientation_code(direction: Sequence[float]) -> str:
    """Return where the image axes x, y and z run to, such as LPS or RAS."""
    letters = ["", "", ""]
    for names, (axis, sign) in zip(_TOWARDS, nearest_axes(direction), strict=True):
        letters[axis] = names[0 if sign > 0 else 1]
    return "".join(letters)


def flipped(code: str, axes: Sequence[int] = (0, 1, 2)) -> str:
    """Return the code of an image flipped along array axes (z, y, x): RAI for LPS along all, RAS within slices."""
    opposite = {letter: other for pair in _TOWARDS for letter, other in (pair, pair[::-1])}
    return "".join(opposite[letter] if 2 - place in axes else letter for place, letter in enumerate(code))


def reoriented(volume: Volume) -> NDArray[Any]:
    """Return a view of the voxels whose axes (z, y, x) run up, back and left as nearly as they can."""
    nearest = nearest_axes(volume.direction)[::-1]
    flips = tuple(slice(None, None, sign) for _, sign in nearest)
    view: NDArray[Any] = volume.voxels.transpose([2 - axis for axis, _ in nearest])[flips]
    return view


def _slightly_turned(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    for axis, angle in enumerate(_HAIR):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i] = np.sin(angle)
        turn[i, j] = -turn[j, i]
        matrix = turn @ matrix
    return np.asarray(matrix)
