"""Weights of others, brought into the layout of nnU-Net's checkpoints: tensors and plain types, under all its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_volf.weights.description import facts
from nnunet_volf.weights.dialects import read_opened, read_pretrained
from nnunet_volf.weights.dialects.values import mapping, plain_only
from nnunet_volf.weights.names import canonical_name, is_head
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.reading import Opened, open_weights
from nnunet_volf.weights.record import write_weights
from nnunet_volf.weights.target import network_shapes


@dataclass(frozen=True)
class Imported:
    """What was written, read back from there, and what it lacks of the network that it describes."""

    weights: Pretrained
    network_known: bool
    missing: tuple[str, ...]  # tensors that nnU-Net asks for, heads aside


def default_output(source: Path) -> Path:
    """Return the place beside a file that its import goes to."""
    return source.with_name(f"{source.stem}-imported.pth")


def import_weights(source: Path, output: Path, trust: bool = False, resolution_mode: int | None = None) -> Imported:
    """Write a file that nnU-Net and every command here take, and read it back."""
    opened = open_weights(source, trust)
    pretrained = read_opened(opened, resolution_mode)
    stored, problem = _stored_shapes(pretrained)
    own = {name: tensor.contiguous().clone() for name, tensor in pretrained.tensors.items()}
    named = {name: own[one] for name in stored if _fits(own, one := canonical_name(name), stored[name])}
    rest = {name: tensor for name, tensor in own.items() if name not in named}
    missing = tuple(name for name in stored if name not in named and not is_head(name))
    if pretrained.architecture and not problem and len(missing) == len(stored):
        problem = "The network that the file describes has none of its tensors."
    notes = (f"Imported from {source.name}.", *([problem] if problem else []))
    write_weights(output, {**named, **rest}, _plain(pretrained), _init_args(opened, pretrained), notes)
    return Imported(read_pretrained(output), bool(stored), missing)


def _stored_shapes(pretrained: Pretrained) -> tuple[Mapping[str, tuple[int, ...]], str]:
    """Return the shape of everything that nnU-Net stores of a file's network, or why that is not known."""
    if pretrained.architecture is None:
        return {}, ""
    known = facts(pretrained)
    channels = known["input_channels"] or 1
    try:
        return network_shapes(pretrained.architecture, channels, known["outputs"] or 1)[0], ""
    except Exception as error:  # a stranger's arguments can be wrong in any way
        return {}, f"The network that the file describes could not be built ({type(error).__name__}: {error})."


def _fits(own: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> bool:
    return name in own and tuple(own[name].shape) == shape


def _plain(pretrained: Pretrained) -> Pretrained:
    about = {name: plain_only(getattr(pretrained, name)) for name in ("settings", "data", "versions")}
    architecture = pretrained.architecture
    if architecture is not None:
        architecture = replace(architecture, arguments=plain_only(architecture.arguments))
    return replace(pretrained, architecture=architecture, **about)


def _init_args(opened: Opened, pretrained: Pretrained) -> dict[str, Any] | None:
    """Return plans, configuration and dataset of an nnU-Net checkpoint; they describe the network best."""
    init = mapping(mapping(opened.content).get("init_args"))
    if pretrained.architecture is None or "plans" not in init:
        return None
    return {name: plain_only(init[name]) for name in ("plans", "configuration", "fold", "dataset_json") if name in init}
