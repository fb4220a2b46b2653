"""The other way round: plans of a dataset with the network of a file, so that all of the file can be taken over."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import prod
from typing import Any

from nnunet_volf.errors import WeightsError
from nnunet_volf.plans import PlannedDataset
from nnunet_volf.weights.pretrained import Architecture, Preparation, Pretrained


def plans_with_network_of(
    pretrained: Pretrained,
    dataset: PlannedDataset,
    configuration: str,
    name: str,
    with_spacing: bool = False,
    patch: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return a dataset's plans with one configuration: its own, but for the network and the patch of a file.

    Where a patch is given, it is taken in the place of the file's.

    Images are prepared as before, so the same preprocessed data serves; with the file's spacing, too, they have to be
    preprocessed anew and get a folder of their own.
    """
    architecture, preparation = _described(pretrained)
    planned = dataset.configuration(configuration)
    if len(planned["patch_size"]) != len(preparation.patch):
        raise WeightsError(
            f"{pretrained.path} holds a network for {len(preparation.patch)}D and {configuration} of {dataset.name} is "
            f"{len(planned['patch_size'])}D. Name another configuration with -c, or let 'weights adapt' bring the "
            "weights to this one."
        )
    planned.pop("inherits_from", None)
    planned["patch_size"] = list(preparation.patch if patch is None else _fitting(patch, architecture))
    planned["architecture"] = {
        "network_class_name": architecture.class_name,
        "arch_kwargs": dict(architecture.arguments),
        "_kw_requires_import": list(architecture.needs_import),
    }
    if with_spacing:
        if len(preparation.spacing) != len(preparation.patch):
            raise WeightsError(f"{pretrained.path} does not say at which spacing it was trained. Leave --spacing out.")
        planned["spacing"] = list(preparation.spacing)
        planned["data_identifier"] = f"{name}_{configuration}"
    return {
        **copy.deepcopy(dataset.plans),
        "plans_name": name,
        "configurations": {configuration: copy.deepcopy(planned)},
    }


def _fitting(patch: Sequence[int], architecture: Architecture) -> Sequence[int]:
    """Refuse a patch that a network can not halve as often as it wants to."""
    strides = architecture.arguments.get("strides")
    if not isinstance(strides, (list, tuple)) or not all(isinstance(side, (list, tuple)) for side in strides):
        return patch
    total = [prod(sides) for sides in zip(*strides, strict=True)]
    if len(total) == len(patch) and any(side < 1 or side % whole for side, whole in zip(patch, total, strict=True)):
        nearest = (max(1, round(side / whole)) * whole for side, whole in zip(patch, total, strict=True))
        raise WeightsError(
            f"--patch is {_times(patch)}, and the strides of this network are {_times(total)} in all, which the patch "
            f"must be multiples of. The nearest: --patch {' '.join(map(str, nearest))}."
        )
    return patch


def _times(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


def _described(pretrained: Pretrained) -> tuple[Architecture, Preparation]:
    if pretrained.architecture is None or pretrained.preparation is None or not pretrained.preparation.patch:
        raise WeightsError(
            f"{pretrained.path} ({pretrained.kind}) does not say which network its tensors belong to, or for which "
            "patch. Its weights can only be brought to the dataset's own plans: nnunet-volf weights adapt."
        )
    return pretrained.architecture, pretrained.preparation
