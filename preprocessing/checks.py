"""Can a volume be trained on? What stands against it is refused; what is known of it otherwise is told as numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .content import SLAB_VOXELS, content_hash
from .orientation import orientation_code
from .refusals import Refused
from .segmentations import check_is_scan
from .tissue import tissue_mask
from .volumes import Volume

MOST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Limits:
    """What is taken for a mistake."""

    # nnU-Net's planner stops pooling an axis below 8 voxels, since it keeps at least 4 at the bottleneck.
    least_side: int = 8
    # Clinical scans lie between 0.05 mm (a dental CT) and 10 mm. Metres written for millimetres come out below these
    # limits, micrometres above.
    least_spacing: float = 0.01  # mm
    most_spacing: float = 30.0  # mm
    most_anisotropy: float = 100.0  # slices 10 mm apart with pixels of 0.1 mm


@dataclass(frozen=True)
class Facts:
    """What is known of a volume; shape and spacing as (z, y, x)."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str  # where the stored axes x, y, z run to
    dtype: str
    minimum: float
    maximum: float
    # Within tissue, from the points of the coarse grid.
    mean: float
    std: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    tissue: float  # share of the volume
    content: str
    notes: tuple[str, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}


def audit(volume: Volume, limits: Limits | None = None) -> Facts:
    """Return what is known of a volume; raises Refused if it cannot be trained on."""
    limits = limits or Limits()
    _check_size(volume.voxels.shape, limits)
    _check_spacing(volume.spacing, limits)
    minimum, maximum = _check_values(volume.voxels)
    check_is_scan(volume.voxels)
    mask, stride = tissue_mask(volume.voxels)
    values = volume.voxels[tuple(slice(None, None, s) for s in stride)][mask].astype(np.float64)
    low, median, high = np.percentile(values, (0.5, 50, 99.5)).tolist()
    z, y, x = volume.voxels.shape
    notes = volume.notes
    if np.linalg.det(np.reshape(volume.direction, (3, 3))) < 0:
        notes += ("axes are left-handed",)
    return Facts(
        shape=(z, y, x),
        spacing=volume.spacing[::-1],
        orientation=orientation_code(volume.direction),
        dtype=str(volume.voxels.dtype),
        minimum=minimum,
        maximum=maximum,
        mean=float(values.mean()),
        std=float(values.std()),
        percentile_00_5=low,
        median=median,
        percentile_99_5=high,
        tissue=float(mask.mean()),
        content=content_hash(volume),
        notes=notes,
    )


def _check_size(shape: tuple[int, ...], limits: Limits) -> None:
    if min(shape) < limits.least_side:
        raise Refused(
            "too-small",
            f"It has {' x '.join(map(str, shape))} voxels (z, y, x); each axis needs at least {limits.least_side}.",
            "Remove it: after padding there is hardly anything of it in a crop.",
        )


def _check_spacing(spacing: tuple[float, ...], limits: Limits) -> None:
    found = f"Its spacing is {' x '.join(f'{s:g}' for s in spacing)} mm (x, y, z)"
    advice = "Write the true spacing in millimetres into the header, or remove the file."
    if not all(limits.least_spacing <= s <= limits.most_spacing for s in spacing):
        bounds = f"{limits.least_spacing:g} and {limits.most_spacing:g} mm"
        raise Refused("spacing", f"{found}; all three must lie between {bounds}.", advice)
    if max(spacing) > limits.most_anisotropy * min(spacing):
        raise Refused(
            "spacing",
            f"{found}: the widest is {max(spacing) / min(spacing):.0f} times the narrowest; at most "
            f"{limits.most_anisotropy:g} times is taken for true.",
            advice,
        )


def _check_values(voxels: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest value; NaN and infinity show in them, and are only then counted."""
    whole = voxels.dtype.kind in "biu"
    low, high = [], []
    for slab in _slabs(voxels):
        low.append(slab.min())
        high.append(slab.max())
        if not whole and not (np.isfinite(low[-1]) and np.isfinite(high[-1])):
            raise _not_finite(voxels)
    minimum, maximum = float(min(low)), float(max(high))
    largest = max(-minimum, maximum)
    if largest > MOST_FLOAT32:
        raise Refused(
            "non-finite",
            f"Its values reach {largest:g}, which is infinite in float32, as nnU-Net reads it.",
            "Rescale the image, or remove the file.",
        )
    if minimum == maximum:
        raise Refused("constant", f"Every voxel is {minimum:g}.", "Remove it, or export it again: it shows nothing.")
    return minimum, maximum


def _not_finite(voxels: NDArray[Any]) -> Refused:
    nan = sum(int(np.isnan(slab).sum()) for slab in _slabs(voxels))
    infinite = sum(int(np.isinf(slab).sum()) for slab in _slabs(voxels))
    return Refused(
        "non-finite",
        f"{nan} of {voxels.size} voxels are NaN and {infinite} are infinite.",
        "Replace them by a number (such as the value of air), or remove the file: one makes the loss of a batch NaN.",
    )


def _slabs(voxels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    thickness = max(1, SLAB_VOXELS // max(1, voxels[0].size))
    return (voxels[start : start + thickness] for start in range(0, len(voxels), thickness))
