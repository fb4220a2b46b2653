"""What a plan gives to a pretext, made up: what the tests of all pretexts share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunet_volf.pretext.given import Given


def given_for(patch: Sequence[int] = (16, 16, 16), channels: Sequence[str] = ("CT",), **values: Any) -> Given:
    """Return a network of three stages on a patch, with images twice as large; `values` replace what is made up."""
    axes = len(patch)
    made_up = {
        "patch": tuple(patch),
        "spacing": (1.0,) * axes,
        "channels": tuple(channels),
        "strides": (4,) * axes,
        "features": (4, 8, 8),
        "kernels": ((3,) * axes,) * 3,
        "batch_size": 2,
        "median_shape": tuple(2 * side for side in patch),
        "dataset": "Dataset901_Phantom",
    }
    return Given(**{**made_up, **values})
