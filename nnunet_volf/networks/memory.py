"""How many values a network keeps from the forward for the backward pass, counted without computing anything."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def kept_values(network: nn.Module, shape: Sequence[int]) -> int:
    """Return the number of values that a training step on a GPU keeps for an input of this shape, weights aside.

    The network is run on torch's meta device, where tensors have shapes and no content, so any patch takes a moment.
    """
    without_content = copy.deepcopy(network).to("meta").train()
    weights = {_storage(value) for value in (*without_content.parameters(), *without_content.buffers())}
    kept: dict[int, Tensor] = {}  # by storage, since what two layers keep may be one tensor; the tensor keeps it alive

    def keep(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention(), torch.enable_grad():
        without_content(torch.empty(tuple(shape), device="meta"))
    values = (tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in kept.values())
    return sum(count for storage, count in zip(kept, values, strict=True) if storage not in weights)


class _FusedAttention(TorchFunctionMode):
    """Attention as GPUs do it, in one kernel that keeps no matrix of all pairs; other devices would count that, too."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value, bias, dropout = args
        fused: Any = torch.ops.aten._scaled_dot_product_efficient_attention
        return fused(query, key, value, bias, True, dropout)[0]


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address
