"""Convolutions for other kernel sizes, and for 3D from 2D and back.

A kernel that grows gets zeros around it: the response stays exactly the same. One that shrinks has its outer taps added
to the nearest that remain: the response to what is constant along that axis stays the same. nnU-Net's transposed
convolutions have kernels as long as their strides, so that each output voxel comes from one tap: one that grows repeats
its taps, one that shrinks takes their mean. A 2D kernel is a 3D one of length 1 along the first axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


class DoesNotFit(Exception):  # noqa: N818 - an answer, not an error
    """A tensor cannot be made to fit; the text says why."""


def fit_kernel(weight: Tensor, kernel: Sequence[int], transposed: bool = False) -> Tensor:
    """Return convolution weights (features, features, *kernel) for a kernel of other lengths or another dimension."""
    fitted, wanted = weight, tuple(kernel)
    if fitted.ndim == 4 and len(wanted) == 3:
        fitted = fitted.unsqueeze(2)
    flat = fitted.ndim == 5 and len(wanted) == 2
    for axis, length in enumerate((1, *wanted) if flat else wanted, start=2):
        if fitted.shape[axis] != length:
            fitted = _resize_taps(fitted, axis, length) if transposed else _resize(fitted, axis, length)
    return (fitted.squeeze(2) if flat else fitted).contiguous()


def _resize(weight: Tensor, axis: int, length: int) -> Tensor:
    now = weight.shape[axis]
    if (now - length) % 2:
        raise DoesNotFit(f"a kernel of {now} has no middle in common with one of {length}")
    if length > now:
        margin = (length - now) // 2
        padding = [0, 0] * (weight.ndim - 1 - axis) + [margin, margin]
        return functional.pad(weight, padding)
    margin = (now - length) // 2
    kept = weight.narrow(axis, margin, length).clone()
    kept.select(axis, 0).add_(weight.narrow(axis, 0, margin).sum(axis))
    kept.select(axis, length - 1).add_(weight.narrow(axis, now - margin, margin).sum(axis))
    return kept


def _resize_taps(weight: Tensor, axis: int, length: int) -> Tensor:
    now = weight.shape[axis]
    if length % now == 0:
        return torch.repeat_interleave(weight, length // now, axis)
    if now % length == 0:
        groups = weight.reshape(*weight.shape[:axis], length, now // length, *weight.shape[axis + 1 :])
        return groups.mean(axis + 1)
    raise DoesNotFit(f"a stride of {now} is no multiple of {length}")


def describe_kernel(before: Sequence[int], after: Sequence[int], transposed: bool = False) -> str:
    """Say what became of a kernel."""
    what = "upsampling" if transposed else "kernel"
    return f"{what} {_times(before)} -> {_times(after)}"


def _times(sides: Sequence[int]) -> str:
    return "x".join(str(side) for side in sides)
