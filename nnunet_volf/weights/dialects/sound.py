"""Descriptions out of a stranger's file are of the types that all who use them count on, or are not used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nnunet_volf.weights.dialects.values import mapping, numbers, plain_only, texts, whole
from nnunet_volf.weights.pretrained import Architecture, Preparation

_PER_STAGE = ("strides", "kernel_sizes", "features_per_stage")


def sound_preparation(described: Preparation) -> Preparation:
    """Return a description of the preparation if every part of it is what it should be."""
    sound = Preparation(
        channels=texts(described.channels),
        normalization=texts(described.normalization),
        spacing=tuple(float(side) for side in numbers(described.spacing)),
        patch=tuple(int(side) for side in numbers(described.patch)),
        intensities=tuple(
            {str(name): float(value) for name, value in mapping(values).items() if isinstance(value, (int, float))}
            for values in described.intensities
        ),
    )
    for name in ("channels", "normalization", "spacing", "patch"):
        if len(getattr(sound, name)) != len(getattr(described, name)):
            raise TypeError(f"{name} is {getattr(described, name)!r}")
    return sound


def sound_architecture(described: Architecture) -> Architecture:
    """Return a description of the network if every part of it is what it should be."""
    arguments: Any = described.arguments
    if not isinstance(described.class_name, str) or not isinstance(arguments, Mapping):
        raise TypeError(f"the network is {described.class_name!r}")
    for name in _PER_STAGE:
        value = arguments.get(name)
        if value is not None and not isinstance(value, (list, tuple)) and whole(value) is None:
            raise TypeError(f"{name} is {value!r}")
    needs = texts(described.needs_import)
    return replace(described, arguments=plain_only(arguments), needs_import=needs)
