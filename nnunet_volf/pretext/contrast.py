"""Which parts of an image show anything: a part that is all air, or all one tissue, could lie anywhere."""

from __future__ import annotations

from torch import Tensor


def shows(parts: Tensor, whole: Tensor, share: float = 0.05) -> Tensor:
    """Return whether each part (n, c, *block) of a whole image (c, *size) shows something in each channel: (n, c).

    It does if its intensities spread at least `share` as much as those of the whole channel; in a channel without
    contrast no part shows anything.
    """
    values = whole.flatten(1)
    contrast = values.amax(1) > values.amin(1)  # the deviation of equal values need not come out as 0
    return (_spread(parts.flatten(2)) >= share * _spread(values)) & contrast


def _spread(values: Tensor) -> Tensor:
    return values.std(-1, correction=0)
