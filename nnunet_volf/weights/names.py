"""One name for each tensor of an nnU-Net network.

nnU-Net's modules list some parameters several times: a convolution under ``conv`` and as the first of ``all_modules``,
and the whole encoder once more inside the decoder. A checkpoint holds every one of these names. We compare and adapt
under one name and write all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

# nnU-Net's `load_pretrained_weights` leaves out the tensors whose names contain this.
HEADS = ".seg_layers."

_CONVOLUTION = re.compile(r"\.all_modules\.0\.")
_NORMALIZATION = re.compile(r"\.all_modules\.[12]\.")  # 2 where dropout stands between the two


def canonical_name(name: str) -> str:
    """Return the one name of a tensor, such as ``encoder.stem.convs.0.conv.weight`` for a stem's convolution."""
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    return _NORMALIZATION.sub(".norm.", _CONVOLUTION.sub(".conv.", name))


def canonical(stored: Mapping[str, Value]) -> dict[str, Value]:
    """Return each tensor (or its shape) once, under its one name; what is stored under that very name comes first."""
    unique: dict[str, Value] = {}
    for name, value in stored.items():
        one = canonical_name(name)
        if one == name or one not in unique:
            unique[one] = value
    return unique


def is_head(name: str) -> bool:
    """Say whether a tensor belongs to a layer that makes the segmentation, which no pretrained network passes on."""
    return HEADS in name
