"""Tensors by name and nothing else, at the top of a file or under one of the usual keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from nnunet_volf.weights.dialects.tensors import tensors_of
from nnunet_volf.weights.dialects.values import mapping
from nnunet_volf.weights.pickles.inert import Inert
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.reading import Opened

# Where trainings put the network, the likeliest first.
USUAL_KEYS = (
    "network_weights", "state_dict", "model_state_dict", "net", "network", "model", "weights", "params", "module",
    "ema", "model_ema", "teacher", "student",
)  # fmt: skip

# What belongs to the training and holds tensors, too.
_NOT_THE_NETWORK = ("optim", "sched", "scaler", "amp", "rng", "random", "loss")
_DEEPEST = 3


def recognises(content: Any) -> bool:
    """Say whether there are tensors under names anywhere near the top."""
    return any(True for _ in places(content))


def read(opened: Opened) -> Pretrained:
    """Read the likeliest of the dictionaries of tensors in a file."""
    found = list(places(opened.content))
    key, weights = min(found, key=lambda place: _rank(*place))
    tensors, notes = tensors_of(opened.path, weights)
    others = [".".join(other) or "the top" for other, _ in found if other != key]
    where = f"The weights were found under '{'.'.join(key)}'" if key else "The weights were found at the top"
    if others:
        notes = (f"{where}; there are tensors under {', '.join(map(repr, others))} too.", *notes)
    return Pretrained(path=opened.path, kind="state dict", opened=opened.how, tensors=tensors, notes=notes)


def places(content: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Return every dictionary that holds tensors directly, with the keys that lead to it."""
    if isinstance(content, Inert):  # a network saved whole, or a dictionary of a type that is not known
        content = dict(_module_tensors(content)) or content.entries
    if not isinstance(content, Mapping) or len(key) > _DEEPEST:
        return
    if any(isinstance(value, Tensor) and isinstance(name, str) for name, value in content.items()):
        yield key, {name: value for name, value in content.items() if isinstance(name, str)}
    for name, value in content.items():
        if isinstance(name, str) and not any(part in name.lower() for part in _NOT_THE_NETWORK):
            yield from places(value, (*key, name))


def _module_tensors(module: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Return the tensors of a network that was saved as an object, as its ``state_dict`` would have."""
    state = module.state if isinstance(module, Inert) and isinstance(module.state, Mapping) else {}
    for kind in ("_parameters", "_buffers"):
        for own, value in mapping(state.get(kind)).items():
            if isinstance(value, Tensor):
                yield f"{name}{own}", value
    for child, inner in mapping(state.get("_modules")).items():
        yield from _module_tensors(inner, f"{name}{child}.")


def _rank(key: tuple[str, ...], weights: Mapping[str, Any]) -> tuple[int, int]:
    """Return a usual key's place in the list; else the more values the better."""
    values = sum(value.numel() for value in weights.values() if isinstance(value, Tensor))
    usual = [USUAL_KEYS.index(name) for name in key[-1:] if name in USUAL_KEYS]
    return (usual[0] if usual else len(USUAL_KEYS), -values)
