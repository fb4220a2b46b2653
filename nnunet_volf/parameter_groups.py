"""Which layers of a network learn together: by how far they are from the output, and whether they are trained first.

Where all layers share one rate there is one group, as nnU-Net has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from nnunet_volf.errors import TrainingError
from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.weights.names import canonical_name, is_head

_WRAPPERS = re.compile(r"\b(module|_orig_mod)\.")  # distributed training and torch.compile
_DECODER = re.compile(r"^decoder\.(?:(?:stages|transpconvs)\.(\d+)|bottleneck)\.")
_ENCODER = re.compile(r"^encoder\.(?:stages\.(\d+)|stem)\.")
_CONTEXT = re.compile(r"^context\.")

Named = Iterable[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class Layer:
    """Where a parameter sits."""

    part: str  # "heads", "decoder" or "encoder"
    distance: int  # from the output: 0 for the heads, 1 for the last stage of the decoder, most for the stem


@dataclass(frozen=True)
class Group:
    """Parameters with one learning rate."""

    parameters: tuple[nn.Parameter, ...]
    scale: float  # of their rate
    first: bool  # whether they are trained while others wait


def group_parameters(named: Named, settings: FineTuneSettings) -> list[Group]:
    """Return the groups that the settings ask for, the one of the heads first: nnU-Net logs the rate of that one."""
    parameters = dict(named)
    if settings.first == "none" and settings.layer_decay == settings.heads_rate == 1:
        return [Group(tuple(parameters.values()), scale=1.0, first=True)]
    waiting = {"none": (), "heads": ("decoder", "encoder"), "decoder": ("encoder",)}[settings.first]
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, layer in place_layers(parameters).items():
        scale = settings.heads_rate if layer.part == "heads" else settings.layer_decay**layer.distance
        key = (scale, layer.part not in waiting)
        members.setdefault(key, []).append(parameters[name])
    ordered = sorted(members, reverse=True)
    return [Group(tuple(members[scale, first]), scale, first) for scale, first in ordered]


def place_layers(names: Iterable[str]) -> dict[str, Layer]:
    """Return where each parameter sits, by its name in an nnU-Net network."""
    plain = {name: canonical_name(_WRAPPERS.sub("", name)) for name in names}
    known = (_DECODER, _ENCODER, _CONTEXT)
    unknown = [name for name, one in plain.items() if not (is_head(one) or any(part.match(one) for part in known))]
    if unknown:
        raise TrainingError(
            f"first, layer_decay and heads_rate need a network with the stages of an nnU-Net encoder and decoder; this "
            f"one has {unknown[0]!r} ({len(unknown)} such parameters). Set first=none, layer_decay=1 and heads_rate=1."
        )
    numbers = [_number(found) for one in plain.values() if (found := _DECODER.match(one))]
    stages, bottleneck = 1 + max(numbers), min(numbers) < 0
    context = any(_CONTEXT.match(one) for one in plain.values())
    return {name: _place(one, stages, bottleneck, context) for name, one in plain.items()}


def _place(name: str, decoder_stages: int, bottleneck: bool, context: bool) -> Layer:
    if is_head(name):
        return Layer("heads", 0)
    if found := _DECODER.match(name):
        return Layer("decoder", decoder_stages - _number(found))  # stage 0 is the deepest
    if _CONTEXT.match(name):  # whatever trains an encoder trains the block behind it too
        return Layer("encoder", decoder_stages + 1 + bottleneck)
    found = _ENCODER.match(name)
    stage = _number(found) if found else -1
    # An encoder has one stage more than its decoder, and FMUNet's decoder looks at the last one's output first.
    return Layer("encoder", 2 * decoder_stages + 1 + bottleneck + context - stage)


def _number(found: re.Match[str]) -> int:
    """Return the number of a stage; -1 for what comes before stage 0: the stem, or a decoder's bottleneck."""
    return int(found[1]) if found[1] else -1
