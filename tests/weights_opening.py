"""Open files of weights that may be damaged or malicious, and compare content: what the tests of reading share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from malicious import LEGACY

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.reading import Opened, open_weights

FORMATS = pytest.mark.parametrize("how", [{}, LEGACY], ids=["archive", "stream"])
WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5, -2.0])}


def same(one: Any, other: Any) -> bool:
    """Compare nested content: types, order, values, and how tensors lie in memory."""
    if isinstance(one, torch.Tensor):
        return (
            type(other) is torch.Tensor
            and (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
            and one.numpy().tobytes() == other.numpy().tobytes()
            if one.dtype != torch.bfloat16
            else torch.equal(one, other)
        )
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(same(*pair) for pair in zip(one, other, strict=True))
        )
    return type(one) is type(other) and (one == other or one != one)


def problem(path: Path, trust: bool = False) -> str:
    with pytest.raises(WeightsError) as raised:
        open_weights(path, trust)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def opened_or_refused(path: Path) -> Opened | None:
    """Open a file that may be damaged; any other error than ours is a failure."""
    try:
        return open_weights(path)
    except WeightsError:
        return None
