"""Tensor by tensor, what a task's network takes over from a file of weights, and why not the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nnunet_volf.weights.channels import channel_shares, describe_shares, mix_channels
from nnunet_volf.weights.choices import ADAPTED, CARRIED, HEAD, MISSING, SKIPPED, UNTRAINED
from nnunet_volf.weights.kernels import DoesNotFit, describe_kernel, fit_kernel
from nnunet_volf.weights.names import is_head
from nnunet_volf.weights.network_differences import of_other_kinds
from nnunet_volf.weights.placing import counterparts
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.target import Task
from nnunet_volf.weights.trained import is_context, on_encoder_side, was_trained

# Where networks upsample: nnU-Net's, and PCT-Net.
_TRANSPOSED = (".transpconvs.", ".up.conv.")


@dataclass(frozen=True)
class Row:
    """One tensor of the task's network."""

    name: str
    shape: tuple[int, ...]
    outcome: str
    detail: str = ""  # how it was adapted, or why it was skipped
    source: str = ""  # its name in the file
    value: Tensor | None = None  # None: the network's own initialisation stays

    @property
    def parameters(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Match:
    """All tensors of a task's network, and those of the file that it has no place for."""

    rows: tuple[Row, ...]
    left: tuple[str, ...]
    scope: str
    channels: str

    def share(self, *outcomes: str) -> float:
        """Return the share of what could be pretrained, in parameters, with one of these outcomes."""
        return share_of([row for row in self.rows if row.outcome not in (HEAD, UNTRAINED)], *outcomes)

    def share_of_network(self, *outcomes: str) -> float:
        """Return the share of the whole network but its heads, in parameters, with one of these outcomes."""
        return share_of([row for row in self.rows if row.outcome != HEAD], *outcomes)


def share_of(rows: Sequence[Row], *outcomes: str) -> float:
    """Return the share of the parameters of some tensors with one of these outcomes; 0 where there are none."""
    wanted = sum(row.parameters for row in rows if row.outcome in outcomes)
    return wanted / sum(row.parameters for row in rows) if rows else 0.0


def match(pretrained: Pretrained, task: Task, scope: str = "all", channels: str = "name") -> Match:
    """Find out what of a file a task's network takes over, adapting what can be adapted."""
    strangers = of_other_kinds(pretrained.architecture, task.architecture)
    places = {} if strangers else counterparts(pretrained.tensors.keys(), task.shapes.keys())
    rows = tuple(
        _row(name, shape, places.get(name), pretrained, task, scope, channels) for name, shape in task.shapes.items()
    )
    used = {row.source for row in rows}
    trained = (n for n in pretrained.tensors if not is_head(n) and was_trained(n, pretrained.trained))
    left = tuple(name for name in trained if name not in used)
    return Match(rows, left, scope, channels)


def _row(
    name: str, shape: tuple[int, ...], source: str | None, pretrained: Pretrained, task: Task, scope: str, rule: str
) -> Row:
    if is_head(name):
        return Row(name, shape, HEAD, "belongs to the task", source or "")
    if not was_trained(name, pretrained.trained):
        return Row(name, shape, UNTRAINED, "starts as initialised", source or "")
    if scope == "encoder" and not on_encoder_side(name):
        return Row(name, shape, SKIPPED, "scope encoder", source or "")
    if source is None:
        return Row(name, shape, MISSING, "new, starts as identity" if is_context(name) else "not in the file")
    weight = pretrained.tensors[source]
    try:
        steps = list(_steps(weight, name, shape, pretrained, task, rule))
    except DoesNotFit as problem:
        return Row(name, shape, SKIPPED, str(problem), source)
    if not steps:
        detail = "" if source == name else f"from {source}"
        return Row(name, shape, CARRIED, detail, source, weight)
    return Row(name, shape, ADAPTED, ", ".join(said for said, _ in steps), source, steps[-1][1])


def _steps(
    weight: Tensor, name: str, shape: Sequence[int], pretrained: Pretrained, task: Task, rule: str
) -> Iterator[tuple[str, Tensor]]:
    """Yield what has to be done to a tensor, in words and done; nothing where it fits as it is."""
    if name == task.first_layer and weight.ndim >= 4:
        said, weight_for_channels = _fit_channels(weight, pretrained, task, rule)
        if said:
            weight = weight_for_channels
            yield said, weight
    if tuple(weight.shape[:2]) != tuple(shape[:2]):
        raise DoesNotFit(f"features {_times(weight.shape[:2])} in the file, {_times(shape[:2])} in the network")
    kernel, wanted = tuple(weight.shape[2:]), tuple(shape[2:])
    if bool(kernel) != bool(wanted):
        raise DoesNotFit(f"{_times(weight.shape)} in the file, {_times(shape)} in the network")
    if kernel != wanted:
        transposed = any(part in name for part in _TRANSPOSED)
        yield describe_kernel(kernel, wanted, transposed), fit_kernel(weight, wanted, transposed)


def _fit_channels(weight: Tensor, pretrained: Pretrained, task: Task, rule: str) -> tuple[str, Tensor]:
    """Return filters for the task's channels, and what was done in words; no words where they fit as they are."""
    wanted = task.preparation.channels
    inputs = len(wanted) + task.segmentation_inputs
    known = pretrained.preparation.channels if pretrained.preparation else ()
    trained = known if len(known) == weight.shape[1] else tuple(f"channel {i}" for i in range(weight.shape[1]))
    shares = np.vstack([channel_shares(trained, wanted, rule), np.zeros((task.segmentation_inputs, len(trained)))])
    if weight.shape[1] == inputs and (trained is not known or np.array_equal(shares, np.eye(inputs))):
        return "", weight
    names = [*wanted, *(f"segmentation {i + 1}" for i in range(task.segmentation_inputs))]
    return describe_shares(trained, names, shares), mix_channels(weight, shares)


def as_stock_loads(stored: Mapping[str, tuple[int, ...]], task: Task) -> list[str]:
    """Return why nnU-Net's own ``-pretrained_weights`` would stop at a file; nothing where it takes it.

    nnU-Net asks for every tensor of the network but those of the heads, by every name and in the same shape.
    """
    problems = []
    for name, shape in task.stored_shapes.items():
        if is_head(name):
            continue
        if name not in stored:
            problems.append(f"{name} is not in the file")
        elif stored[name] != shape:
            problems.append(f"{name} is {_times(stored[name])} in the file and {_times(shape)} in the network")
    return problems


def _times(sides: Sequence[int]) -> str:
    return " x ".join(str(side) for side in sides) or "a single value"
