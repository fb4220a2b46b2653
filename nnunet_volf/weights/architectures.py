"""Which networks may be built from a file: a class path in plans is imported and called with what stands beside it.

nnU-Net builds whatever class the plans name, so plans from a stranger could name a function that runs programs. Here
the class must be one that nnU-Net or we define, its layers must be torch's own, and its sizes a network's.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from dynamic_network_architectures import architectures
from torch import nn

from nnunet_volf import networks
from nnunet_volf.errors import WeightsError
from nnunet_volf.networks.context_plans import CONTEXT_UNET
from nnunet_volf.weights.pretrained import Architecture

# The places of network classes: nnU-Net's, and ours.
_OURS = f"{networks.__name__}."
_NNUNETS = f"{architectures.__name__}."

# Old plans name a module that is no more; nnU-Net then looks for the class in the others.
_MOVED = {"residual_unet": "unet"}

# Arguments that nnU-Net imports by name.
_LAYERS = ("conv_op", "norm_op", "dropout_op", "nonlin")

# What a context block adds to the arguments of the network that it is in.
_OF_CONTEXT = ("network", "context_dilations")

# No network of nnU-Net's has as many stages, and none as many blocks in a stage (ResNet-152 has 36); a plan with more
# would keep us building.
_MOST_STAGES = 32
_MOST_BLOCKS = 64
_MOST_FEATURES = 1 << 16
_MOST_SHOWN = 60  # letters of a value in a message

# Arguments that are widths or sizes of images, by a part of their name; all others are counts, kernels and steps.
_WIDE = ("features", "channels", "embed", "shape", "size", "classes")


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
    if not _is_network(name):
        raise WeightsError(f"The network class {name} is not one of nnU-Net's or ours, and was left out.")
    _check_layers(architecture)
    _check_sizes(architecture)


def _check_layers(architecture: Architecture) -> None:
    wrong = [key for key in architecture.needs_import if key not in _LAYERS]
    if wrong:
        raise WeightsError(f"The file wants {_shown(wrong[0])} imported, and its network was left out.")
    for key in _LAYERS:
        layer = architecture.arguments.get(key)
        if layer is not None and not _is_torch_layer(layer):
            raise WeightsError(
                f"The file has {key} = {_shown(layer)}, which is no layer of torch.nn; its network was left out."
            )


def _check_sizes(architecture: Architecture) -> None:
    stages = architecture.arguments.get("n_stages", 0)
    if not isinstance(stages, int) or not 0 <= stages <= _MOST_STAGES:
        raise WeightsError(f"The file describes a network of {_shown(stages)} stages, which was left out.")
    for key, value in architecture.arguments.items():
        most = _MOST_FEATURES if any(part in str(key) for part in _WIDE) else _MOST_BLOCKS
        if any(not abs(number) <= most for number in _numbers(value)):
            raise WeightsError(f"The file describes a network with {key} = {_shown(value)}, which was left out.")


def _is_network(name: str) -> bool:
    """Say whether a name is that of a network class; a module only because it holds networks hands out all it imports.

    Through ``architectures.unet.torch.hub.load`` a name could otherwise reach what downloads code and runs it.
    """
    place, _, kind = name.rpartition(".")
    if f"{place}." == _OURS:
        return kind in networks.__all__
    module = place.removeprefix(_NNUNETS)
    module = _MOVED.get(module, module)
    known = {found.name for found in pkgutil.iter_modules(architectures.__path__)}
    if not place.startswith(_NNUNETS) or module not in known:
        return False
    there = import_module(f"{_NNUNETS}{module}")
    found = vars(there).get(kind)
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == there.__name__


def _is_torch_layer(name: Any) -> bool:
    """Compare a name with those that the layers of torch.nn have, without importing anything by it."""
    known = getattr(nn, str(name).split(".")[-1], None)
    if not (isinstance(known, type) and issubclass(known, nn.Module)):
        return False
    return name in (f"torch.nn.{known.__name__}", f"{known.__module__}.{known.__name__}")


def _numbers(value: Any, depth: int = 0) -> Iterator[int | float]:
    """Yield the numbers in a list of lists, and how long the lists are, which counts as well."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (list, tuple)):
        yield len(value) if depth <= _MOST_STAGES else float("inf")
        for item in value if depth <= _MOST_STAGES else ():
            yield from _numbers(item, depth + 1)


def _shown(value: Any) -> str:
    """Return the beginning of a value, which may be as long as a file."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
