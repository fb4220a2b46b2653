"""Halves on CUDA and nowhere else; other devices are not asked, as some torch versions refuse to answer."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from nnunet_volf.precision import full_precision, mixed_precision


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_no_other_device_is_asked(device: str) -> None:
    assert isinstance(mixed_precision(device), nullcontext)
    assert isinstance(full_precision(device), nullcontext)


@pytest.mark.filterwarnings("ignore:.*CUDA.*:UserWarning")  # where there is none
def test_on_cuda_halves_are_switched_on_and_off() -> None:
    for context in (mixed_precision("cuda"), full_precision("cuda")):
        assert isinstance(context, torch.autocast)
