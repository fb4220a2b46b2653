"""Where a task's network works otherwise than the one that weights were trained in, though its tensors fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nnunet_volf.weights.architectures import is_ours, without_context
from nnunet_volf.weights.pretrained import Architecture
from nnunet_volf.weights.trained import is_context

# What `reference` means, for the file's network and for one without it.
_REFERENCE = {
    "PCTNet": (
        "attends to the padding behind the ends of a volume, as the published one does",
        "does not, so features near the ends differ",
    ),
    "FMUNet": (
        "upsamples with aligned corners and leaves out single values, as the published one does",
        "upsamples by the place of each voxel and leaves out whole features",
    ),
}


def of_other_kinds(before: Architecture | None, now: Architecture) -> bool:
    """Say whether tensors of equal names do other work: one of the networks is of this package, and not the other."""
    if before is None:
        return False
    before, now = without_context(before), without_context(now)
    if before.class_name == now.class_name:
        return False
    return is_ours(before) or is_ours(now)


def network_differences(before: Architecture, now: Architecture) -> Iterator[str]:
    """Return what a user should know before weights change into a task's network; nothing where both are alike."""
    before, now = without_context(before), without_context(now)
    if of_other_kinds(before, now):
        yield f"the file's network is {_article(before)}, the task's {_article(now)}: no tensor of one serves the other"
        return
    if (first := _strides(before)) and (second := _strides(now)) and first != second:
        yield f"the file's network strides by {first}, the task's by {second}"
    norms = _norm(before), _norm(now)
    if all(norms) and norms[0] != norms[1]:
        yield (
            f"the file's network normalises by {norms[0]}, the task's by {norms[1]}: scale and offset are carried over"
            f"{_statistics(*norms)}"
        )
    references = before.arguments.get("reference", False), now.arguments.get("reference", False)
    if is_ours(before) and references[0] != references[1]:
        whose = ("the file's network", "the task's") if references[0] else ("the task's network", "the file's")
        with_it, without = _REFERENCE.get(_short(before), ("works as the published one does", "does not"))
        yield f"{whose[0]} {with_it}; {whose[1]} {without}"


def context_differences(before: Collection[str], now: Collection[str]) -> Iterator[str]:
    """Return what becomes of a context block that only one of two networks has, by the names of their tensors."""
    had, has = any(map(is_context, before)), any(map(is_context, now))
    if had and not has:
        yield "the file's network has a context block, the task's has none: the block is left out"
    if has and not had:
        yield "the task's network has a context block, the file's has none: the block is new and starts as identity"


def _statistics(before: str, now: str) -> str:
    if before.startswith("BatchNorm"):
        return ", the statistics of its training are not, so features start at another scale"
    return ", and its statistics start anew" if now.startswith("BatchNorm") else ""


def _strides(architecture: Architecture) -> str:
    """Return the strides after the first stage, which has none, in words: ``1x2x2, 2x2x2``."""
    strides = architecture.arguments.get("strides") or []
    return ", ".join("x".join(map(str, side)) if isinstance(side, (list, tuple)) else str(side) for side in strides[1:])


def _norm(architecture: Architecture) -> str:
    return str(architecture.arguments.get("norm_op") or "").split(".")[-1]


def _short(architecture: Architecture) -> str:
    return architecture.class_name.split(".")[-1]


def _article(architecture: Architecture) -> str:
    name = _short(architecture)
    return f"{'an' if name[0] in 'AEFILMNORSX' and name[1:2].isupper() else 'a'} {name}"
