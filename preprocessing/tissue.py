"""Where a scan shows tissue and not air, told without a label, on a coarse grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

GRID = 64  # points an axis at most: a 512^3 scan is looked at every 8 voxels, finer than any organ
AIR = -1024.0  # Hounsfield units; what lies lower is padding around the round field of view of a CT, not a class
TAILS = (0.5, 99.5)  # percentiles between which the histogram is split: metal and hot vessels do not move the threshold

# Air is even, tissue is not. The lower class counts as air if the middle half of its values is this much narrower than
# its distance to the upper class. Splitting one bell-shaped class gives 0.62, a uniform one 0.5, grey from white matter
# about 0.3; the air of a CT or an MRI gives below 0.1.
MOST_SPREAD = 0.25

MOST_SPLITS = 3  # bright fat, brain or muscle, air

# Otsu's threshold lies half-way between air and the brightest tissue. Dark tissue begins well below that.
TISSUE_BEGINS = 0.25  # of the way from air to tissue, unless noise reaches further
NOISE_REACHES = 4.0  # widths of the middle half

# A background that was masked after normalisation is one value amid those of tissue. It is told by the corners, by
# its share of the grid, and by the gap around it: values within a hundredth of the range are rarer by this factor.
LEAST_MASKED = 0.05
SPIKE = 4.0

LEAST_COMPONENT = 0.01  # of the largest: both legs are kept, a cable is not
LEAST_SHARE = 0.01  # a smaller mask has missed the body


def tissue_mask(voxels: NDArray[Any]) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """Return the mask of tissue on every stride-th voxel of each axis, and the strides.

    Where nothing can be told apart from tissue (a cropped scan, an image of one texture) all of it is tissue.
    """
    stride = grid_stride(voxels.shape)
    grid = _sampled(voxels, stride)
    mask = _found(grid)
    return (np.ones(grid.shape, bool) if mask is None else mask), stride


def tissue_locations(data: NDArray[Any], seed: int, most: int = 10_000) -> NDArray[np.uint16]:
    """Return distinct voxels (n, 3) that show tissue in any channel of data (c, x, y, z), in order.

    Each point of the mask stands for the voxels between it and the next ones; any of them may be drawn.
    """
    if max(data.shape[1:]) > np.iinfo(np.uint16).max + 1:
        raise ValueError(f"The image has the shape {data.shape[1:]}; an axis may have at most 65536 voxels.")
    stride = grid_stride(data.shape[1:])
    found = [_found(_sampled(channel, stride)) for channel in data]
    masks = [mask for mask in found if mask is not None] or [tissue_mask(data[0])[0]]
    mask = np.any(masks, axis=0)
    return _spread(np.argwhere(mask), stride, data.shape[1:], seed, most).astype(np.uint16)


def tissue_values(voxels: NDArray[Any], seed: int, most: int) -> NDArray[np.float32]:
    """Return the values of at most so many points of the mask; what lies between them may already be air."""
    mask, stride = tissue_mask(voxels)
    values = _sampled(voxels, stride)[mask]
    if len(values) <= most:
        return values
    return values[np.random.default_rng(seed).choice(len(values), most, replace=False)]


def grid_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides that leave at most GRID points an axis."""
    return tuple(-(-n // GRID) for n in shape)


def _sampled(voxels: NDArray[Any], stride: tuple[int, ...]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is infinite in float32 is left out like any infinite voxel
        return np.asarray(voxels[tuple(slice(None, None, s) for s in stride)], dtype=np.float32)


def _found(grid: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Return the mask, or None where tissue cannot be told from anything else."""
    masked = _masked_value(grid)
    threshold = _threshold(grid) if masked is None else None
    if masked is not None:
        bright = grid != masked
    elif threshold is not None:
        bright = grid > threshold
    else:
        return None
    mask = _filled(_large_components(bright))
    return mask if mask.mean() >= LEAST_SHARE else None


def _masked_value(grid: NDArray[np.float32]) -> float | None:
    """Return the value that a masked background was set to, or None where background is dark or there is none."""
    corners, counts = np.unique(grid[np.ix_((0, -1), (0, -1), (0, -1))], return_counts=True)
    value = float(corners[counts.argmax()])
    low, high = np.percentile(grid, TAILS)
    share = float((grid == value).mean())
    near = float((np.abs(grid - value) < (high - low) / 100).mean()) - share
    if share < LEAST_MASKED or near * SPIKE > share or not low < value < high:
        return None
    return value


def _threshold(grid: NDArray[np.float32]) -> float | None:
    """Return where tissue begins: above the lowest class of values that is as even as air is.

    Fat and vessels may be so bright that the first split falls between them and all the rest; then the rest is split.
    """
    values = np.maximum(grid[np.isfinite(grid)], AIR)
    if not values.size:
        return None
    values = values.clip(*np.percentile(values, TAILS))
    for _ in range(MOST_SPLITS):
        if values.min() == values.max():
            return None
        otsu = float(threshold_otsu(values))
        low, high = values[values <= otsu], values[values > otsu]
        first, air, third = np.percentile(low, (25, 50, 75))
        distance = np.median(high) - air
        if third - first <= MOST_SPREAD * distance:
            return float(min(otsu, air + max(TISSUE_BEGINS * distance, NOISE_REACHES * (third - first))))
        values = low
    return None


def _large_components(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= max(1, LEAST_COMPONENT * sizes.max()))[labels], bool)


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill what is enclosed in a slice of any of the three axes: lungs are open to the air only through the throat."""
    filled = mask.copy()
    for axis in range(3):
        within = np.moveaxis(ndimage.generate_binary_structure(3, 1), 0, axis).copy()
        np.moveaxis(within, axis, 0)[[0, 2]] = False  # neighbours in the slice only
        labels, count = ndimage.label(~mask, within)
        open_to_border = np.zeros(count + 1, bool)
        for other in {0, 1, 2} - {axis}:
            for side in (0, -1):
                open_to_border[np.take(labels, side, axis=other)] = True
        open_to_border[0] = True
        filled |= ~open_to_border[labels]
    return np.asarray(filled, bool)


def _spread(
    points: NDArray[np.int64], stride: tuple[int, ...], shape: tuple[int, ...], seed: int, most: int
) -> NDArray[np.int64]:
    """Draw distinct voxels from the cells that begin at the points of the grid."""
    rng = np.random.default_rng(seed)
    wanted = min(most, len(points) * int(np.prod(stride)))
    chosen = points[rng.choice(len(points), wanted, replace=wanted > len(points))] * stride
    room = np.minimum(stride, np.asarray(shape) - chosen)
    # Sorting numbers of voxels takes a tenth of the time of sorting their coordinates.
    numbers = np.ravel_multi_index(tuple((chosen + rng.integers(0, room)).T), shape)
    return np.stack(np.unravel_index(np.unique(numbers), shape), axis=1)
