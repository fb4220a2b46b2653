"""How many values a network keeps from the forward for the backward pass, counted without computing anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call


def kept_values(network: nn.Module, shape: Sequence[int]) -> int:
    """Return the number of values that a training step keeps for an input of this shape, weights aside.

    The network is run on torch's meta device, where tensors have shapes and no content, so any patch takes a moment.
    """
    state = {name: _without_content(value) for name, value in network.named_parameters()}
    state |= {name: _without_content(value) for name, value in network.named_buffers()}
    weights = {_storage(value) for value in state.values()}
    kept: dict[int, Tensor] = {}  # by storage, since what two layers keep may be one tensor; the tensor keeps it alive

    def keep(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.enable_grad():
        functional_call(network, state, (torch.empty(tuple(shape), device="meta"),))
    values = (tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in kept.values())
    return sum(count for storage, count in zip(kept, values, strict=True) if storage not in weights)


def _without_content(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address
