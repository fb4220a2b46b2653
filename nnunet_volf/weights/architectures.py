"""Which networks may be built from a file: a class path in plans is imported and called with what stands beside it.

nnU-Net builds whatever class the plans name, so plans from a stranger could name a function that runs programs. Here
the class must be one of those below, and its layers must be torch's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nnunet_volf.errors import WeightsError
from nnunet_volf.networks.context_plans import CONTEXT_UNET
from nnunet_volf.weights.pretrained import Architecture

# The places of network classes: nnU-Net's, and ours.
_OURS = "nnunet_volf.networks."
_PACKAGES = ("dynamic_network_architectures.architectures.", _OURS)

# Arguments that nnU-Net imports by name.
_LAYERS = ("conv_op", "norm_op", "dropout_op", "nonlin")

# What a context block adds to the arguments of the network that it is in.
_OF_CONTEXT = ("network", "context_dilations")

# No network of nnU-Net's has as many stages; a plan with more would keep us building.
_MOST_STAGES = 32


def is_ours(architecture: Architecture) -> bool:
    """Say whether a network is one of this package's, so that nnU-Net needs the package to build it."""
    return architecture.class_name.startswith(_OURS)


def without_context(architecture: Architecture) -> Architecture:
    """Return the network inside, where there is a context block about one; the network itself otherwise."""
    inside = architecture.arguments.get("network")
    if architecture.class_name != CONTEXT_UNET or not isinstance(inside, str):
        return architecture
    arguments = {key: value for key, value in architecture.arguments.items() if key not in _OF_CONTEXT}
    return Architecture(inside, arguments, tuple(key for key in architecture.needs_import if key != "network"))


def name_of(architecture: Architecture) -> str:
    """Return the class of a network without where it is from, and whether a context block is in it."""
    inside = without_context(architecture)
    name = inside.class_name.split(".")[-1]
    return name if inside is architecture else f"{name} with a context block"


def check_buildable(architecture: Architecture) -> None:
    """Refuse to build a network that a file describes, unless class and layers are known ones."""
    if architecture.class_name == CONTEXT_UNET:
        dilations = architecture.arguments.get("context_dilations")
        if not isinstance(dilations, (list, tuple)) or len(dilations) > _MOST_STAGES:
            raise WeightsError("The file describes a context block of no sound number of branches, which was left out.")
        architecture = without_context(architecture)
    name = architecture.class_name
    if name == CONTEXT_UNET:
        raise WeightsError("The file describes a context block about no network that it names, which was left out.")
    if not name.startswith(_PACKAGES) or not all(part.isidentifier() for part in name.split(".")):
        raise WeightsError(f"The network class {name} is not one of nnU-Net's or ours, and was left out.")
    wrong = [key for key in architecture.needs_import if key not in _LAYERS]
    if wrong:
        raise WeightsError(f"The file wants {wrong[0]} imported, and its network was left out.")
    for key in _LAYERS:
        layer = architecture.arguments.get(key)
        if layer is not None and not _is_torch_layer(layer):
            raise WeightsError(
                f"The file has {key} = {layer!r}, which is no layer of torch.nn; its network was left out."
            )
    if not _sizes_are_sane(architecture.arguments):
        stages = architecture.arguments.get("n_stages")
        raise WeightsError(f"The file describes a network of {stages!r} stages, which was left out.")


def _is_torch_layer(name: Any) -> bool:
    """Compare a name with those that the layers of torch.nn have, without importing anything by it."""
    known = getattr(nn, str(name).split(".")[-1], None)
    if not (isinstance(known, type) and issubclass(known, nn.Module)):
        return False
    return name in (f"torch.nn.{known.__name__}", f"{known.__module__}.{known.__name__}")


def _sizes_are_sane(arguments: Mapping[str, Any]) -> bool:
    stages = arguments.get("n_stages", 0)
    return isinstance(stages, int) and 0 <= stages <= _MOST_STAGES
