"""From what a file has under a key to tensors under their one names, and what had to be done for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.names import canonical

# What wraps a network: DataParallel and DDP, torch.compile, Lightning modules and detectors.
PREFIXES = ("module.", "_orig_mod.", "network.", "model.", "net.", "backbone.")

# A prefix is removed where this share of the names has it: a few buffers of the wrapper stay behind.
NEARLY_ALL = 0.9

# nnU-Net's decoder names all of the encoder's tensors a second time, and a checkpoint of PyTorch's may hold averages.
MOST_SHARED = 16

_UNET = re.compile(r"(encoder\.(stem|stages)|decoder\.(stages|transpconvs|seg_layers|encoder))\.")
_COMPILED = "._orig_mod."


def tensors_of(path: Path, weights: Mapping[Any, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors among these under their one names, on the CPU, and notes for the user."""
    found = {name: value.detach() for name, value in weights.items() if isinstance(value, Tensor)}
    if not found:
        raise WeightsError(f"{path} holds no tensors where weights belong.")
    _check_memory(path, found)
    _check(path, found)
    stripped, notes = strip_prefixes(found)
    return canonical(stripped), notes


def strip_prefixes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Remove what wrappers put before the names, in any nesting, and say what was removed."""
    names = {name: name for name in tensors}  # stored name -> name so far
    removed, left = "", ""
    while prefix := next((p for p in PREFIXES if _wraps(p, names)), None):
        kept = [name for name in names.values() if not name.startswith(prefix)]
        names = {stored: name.removeprefix(prefix) for stored, name in names.items()}
        removed += prefix
        left = f", but for {len(kept)} that had none (the first is {kept[0]})" if kept else left
    names = {stored: name.replace(_COMPILED, ".") for stored, name in names.items()}  # a part that was compiled
    if _is_bare_encoder(names):
        names = {stored: f"encoder.{name}" for stored, name in names.items()}
        notes = ["These are the weights of an encoder alone; its names were given the prefix 'encoder.'."]
    else:
        notes = []
    if removed:
        notes.insert(0, f"The prefix '{removed}' was removed from the names of the tensors{left}.")
    return {name: tensors[stored] for stored, name in names.items()}, tuple(notes)


def _wraps(prefix: str, names: Mapping[str, str]) -> bool:
    """Say whether a prefix stands before nearly all names, or before all those that are a U-Net's without it."""
    having = [name for name in names.values() if name.startswith(prefix)]
    without = {name.removeprefix(prefix) for name in names.values()}
    if not having or len(without) < len(names):  # two tensors would get one name
        return False
    if len(having) >= NEARLY_ALL * len(names):
        return True
    of_a_unet = any(_UNET.match(name.removeprefix(prefix)) for name in having)
    return of_a_unet and not any(_UNET.match(name) for name in names.values())


def _is_bare_encoder(names: Mapping[str, str]) -> bool:
    return any(n.startswith("stages.0.") for n in names.values()) and all(
        n.startswith(("stem.", "stages.")) for n in names.values()
    )


def _check_memory(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that share memory so often that to have each for itself takes many times the file."""
    wanted, size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), path.stat().st_size
    if wanted > MOST_SHARED * size:
        raise WeightsError(
            f"{path} has {size:,} bytes and {len(tensors)} tensors of {wanted:,} bytes, which share their memory more "
            f"than {MOST_SHARED} times. Ask its authors for one in which each has its own."
        )


def _check(path: Path, tensors: Mapping[str, Tensor]) -> None:
    odd = [name for name in tensors if not isinstance(name, str) or not name.isprintable()]
    if odd:
        raise WeightsError(f"{path} has a tensor whose name is no text that can be shown: {odd[0]!r}.")
    other = [
        name
        for name, tensor in tensors.items()
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta
    ]
    if other:
        raise WeightsError(
            f"{path} holds {len(other)} tensors without plain values (sparse, quantized or meta), the first is "
            f"{other[0]}. Ask its authors for dense ones."
        )
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise WeightsError(
            f"{path} holds {len(broken)} tensors with NaN or infinite values, the first is {broken[0]}. "
            "The training that wrote it had diverged; take an earlier checkpoint."
        )
