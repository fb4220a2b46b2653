"""Who wrote a file of weights, and how that writer says what is in it.

A dialect recognises the content of a file and reads it. They are asked in this order, the most talkative first; a new
kind of file is one more module and one more line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.architectures import check_buildable
from nnunet_volf.weights.dialects import misfm, nnssl, nnunet, state_dict
from nnunet_volf.weights.dialects.values import mapping
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.reading import Opened, open_weights


@dataclass(frozen=True)
class Dialect:
    """One way to write a file of weights."""

    name: str
    recognises: Callable[[Any], bool]
    read: Callable[[Opened], Pretrained]
    read_mode: Callable[[Opened, int], Pretrained] | None = None  # of a kind that holds several resolution modes


DIALECTS = (
    Dialect("nnunet-volf", nnunet.recognises_ours, nnunet.read),
    Dialect("nnssl", nnssl.recognises, nnssl.read),
    Dialect(misfm.KIND, misfm.recognises, misfm.read, misfm.read),
    Dialect("nnU-Net", nnunet.recognises, nnunet.read),
    Dialect("state dict", state_dict.recognises, state_dict.read),
)


def read_pretrained(path: Path, trust: bool = False, resolution_mode: int | None = None) -> Pretrained:
    """Read a file of weights, whoever wrote it; only with `trust` is code run that the file asks for."""
    return read_opened(open_weights(path, trust), resolution_mode)


def read_opened(opened: Opened, resolution_mode: int | None = None) -> Pretrained:
    """Say what the content of a file is; a published file of PCT-Net holds several resolution modes."""
    for dialect in DIALECTS:
        if dialect.recognises(opened.content):
            pretrained = _with_known_network(_read(dialect, opened, resolution_mode))
            notes = (*_opening_notes(opened), *pretrained.notes)
            return replace(pretrained, stored=_stored(opened.content), notes=notes)
    raise WeightsError(f"{opened.path} holds no weights that are known here. It holds {outline(opened.content)}.")


def _read(dialect: Dialect, opened: Opened, resolution_mode: int | None) -> Pretrained:
    try:
        if resolution_mode is None:
            return dialect.read(opened)
        if dialect.read_mode is not None:
            return dialect.read_mode(opened, resolution_mode)
    except RecursionError as error:
        raise WeightsError(f"{opened.path} describes itself by data that holds itself. Do not use it.") from error
    raise WeightsError(
        f"--resolution-mode is for the published files of PCT-Net, which hold three. {opened.path} is of another "
        f"kind ({dialect.name}) and holds one network. Leave the option out."
    )


def _with_known_network(pretrained: Pretrained) -> Pretrained:
    """Leave out a network that must not be built, so that nothing that uses the description can build it."""
    if pretrained.architecture is None or pretrained.opened == "trusted":
        return pretrained
    try:
        check_buildable(pretrained.architecture)
    except WeightsError as error:
        return replace(pretrained, architecture=None, notes=(*pretrained.notes, str(error)))
    return pretrained


def outline(content: Any) -> str:
    """Say in a few words what the content of a file is: its keys and their types."""
    if not isinstance(content, dict):
        return f"one object of type {type(content).__name__}"
    keys = [f"{key!r} ({type(value).__name__})" for key, value in content.items()]
    more = f" and {len(keys) - 12} more" if len(keys) > 12 else ""
    return f"a dictionary with {', '.join(keys[:12])}{more}" if keys else "an empty dictionary"


def _stored(content: Any) -> dict[str, tuple[int, ...]]:
    weights = content.get("network_weights") if isinstance(content, dict) else None
    return {name: tuple(value.shape) for name, value in mapping(weights).items() if isinstance(value, Tensor)}


def _opening_notes(opened: Opened) -> tuple[str, ...]:
    if not opened.ignored:
        return ()
    return (f"Ignored, because it is neither a tensor nor plain data: {', '.join(opened.ignored)}.",)
