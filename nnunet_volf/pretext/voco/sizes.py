"""Which grid of which crops suits a plan."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.voco.geometry import Region
from nnunet_volf.pretext.voco.settings import VoCoSettings

# With fewer bases there is little to tell apart.
LEAST_BASES = 4
# The largest of the author's grids, 4 x 4 x 1; a grid of three layers of 3 x 3 costs too much for what it adds.
MOST_BASES = 16
# Along an axis, as in the author's latest version.
MOST_ALONG_AXIS = 3


def choose_region(settings: VoCoSettings, given: Given) -> Region:
    """Return grid and crop as set or, where they are not, as the plan suggests; refuse what cannot be trained."""
    for name in ("grid", "crop"):
        numbers = getattr(settings, name)
        if numbers is not None and len(numbers) != len(given.patch):
            raise SettingsError(
                f"{name} is {list(numbers)}, and {given.dataset} is planned in {len(given.patch)}D: give "
                f"{len(given.patch)} numbers, or set {name}=null to have it chosen."
            )
    crop = settings.crop or suggest_crop(given, settings.grid)
    check_crop(crop, given)
    region = Region(settings.grid or suggest_grid(crop, given), crop)
    if prod(region.grid) < LEAST_BASES:
        raise SettingsError(
            f"A grid of {by(region.grid)} is {prod(region.grid)} base crops, and VoCo needs {LEAST_BASES} or more to "
            f"tell apart. The median image of {given.dataset} has {by(given.median_shape)} voxels and room for few "
            f"crops of {by(crop)}: set a smaller crop, in multiples of the network's strides {by(given.strides)}, "
            "or set grid to what you want; smaller images are then stretched to it."
        )
    return region


def suggest_crop(given: Given, grid: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the largest crop that the network divides, within half a patch and so that the grid fits the median image.

    With nnU-Net's usual five halvings of a patch of 128 voxels it has 64, as published.
    """
    parts = grid or [2] * len(given.patch)
    axes = zip(given.patch, given.median_shape, parts, given.strides, strict=True)
    return tuple(max(1, int(min(patch / 2, median / part) // stride)) * stride for patch, median, part, stride in axes)


def suggest_grid(crop: Sequence[int], given: Given) -> tuple[int, ...]:
    """Return as many crops along each axis as fit the median image; one layer where that makes too many in all."""
    fitting = [
        min(MOST_ALONG_AXIS, max(1, median // side)) for median, side in zip(given.median_shape, crop, strict=True)
    ]
    if prod(fitting) > MOST_BASES:
        fitting[given.median_shape.index(min(given.median_shape))] = 1
    return tuple(fitting)


def check_crop(crop: Sequence[int], given: Given) -> None:
    """Refuse crops that the network cannot halve as often as it does, or that it halves down to a single voxel."""
    strides = by(given.strides)
    if any(side % stride for side, stride in zip(crop, given.strides, strict=True)):
        raise SettingsError(
            f"Crops of {by(crop)} voxels do not divide by the network's strides, together {strides}. Set crop to "
            "multiples of these."
        )
    if prod(side // stride for side, stride in zip(crop, given.strides, strict=True)) < 2:
        raise SettingsError(
            f"Of crops of {by(crop)} voxels the network's strides, together {strides}, leave a single voxel, which "
            "cannot be normalised. Double crop along one axis or more."
        )


def by(numbers: Sequence[int]) -> str:
    """Return a size as it is written."""
    return " x ".join(str(number) for number in numbers)
