"""A context block in plans: any U-Net's entry with the block about it, and back.

The arguments stay where they were, beside two more: so nnU-Net finds strides and kernels, and others the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

CONTEXT_UNET = "nnunet_volf.networks.ContextUNet"

# How far apart the voxels of the three dilated convolutions are, for deepest features of at least 4 voxels, as nnU-Net
# plans them. What is farther apart than a patch's features are long sees only the zeros around them.
_DILATIONS = (1, 2, 3)


def with_context(architecture: Mapping[str, Any], patch: Sequence[int]) -> dict[str, Any]:
    """Return the "architecture" entry of a network with a context block, for patches of this size."""
    arguments = architecture["arch_kwargs"]
    deepest = deepest_size(patch, arguments["strides"])
    kernel = arguments["kernel_sizes"][-1]
    dilations = [
        [min(dilation, max(1, size - 1)) if side > 1 else 1 for side, size in zip(kernel, deepest, strict=True)]
        for dilation in _DILATIONS
    ]
    return {
        "network_class_name": CONTEXT_UNET,
        "arch_kwargs": {
            "network": architecture["network_class_name"],
            **arguments,
            "context_dilations": dilations,
        },
        "_kw_requires_import": ["network", *architecture["_kw_requires_import"]],
    }


def without_context(architecture: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry of the network inside, or the entry as it is if there is no block."""
    if not has_context(architecture):
        return architecture
    arguments = dict(architecture["arch_kwargs"])
    del arguments["context_dilations"]
    return {
        "network_class_name": arguments.pop("network"),
        "arch_kwargs": arguments,
        "_kw_requires_import": [name for name in architecture["_kw_requires_import"] if name != "network"],
    }


def has_context(architecture: Mapping[str, Any]) -> bool:
    """Say whether an "architecture" entry has a context block."""
    return bool(architecture["network_class_name"] == CONTEXT_UNET)


def context_in(plans: Mapping[str, Any]) -> bool:
    """Say whether plans were made with a context block."""
    return any(has_context(made["architecture"]) for made in plans["configurations"].values() if "architecture" in made)


def deepest_size(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """Return how large a patch's deepest features are."""
    totals = (prod(steps) for steps in zip(*strides, strict=True))
    return [int(side) // int(total) for side, total in zip(patch, totals, strict=True)]
