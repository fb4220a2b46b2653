"""Halves on CUDA as nnU-Net has them, on CPUs in the network alone; others are not asked: torch 2.1 would refuse."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from torch import Tensor, nn
from training import FINE_TUNER, make_trainer, with_fine_tuning, with_settings

from nnunet_volf.precision import compute_in_halves_on_cpu, full_precision, mixed_precision

HALVES_AND_WHOLES = ("bfloat16", "float32")


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_no_other_device_is_asked(device: str) -> None:
    assert isinstance(mixed_precision(device), nullcontext)
    assert isinstance(full_precision(device), nullcontext)


@pytest.mark.filterwarnings("ignore:.*CUDA.*:UserWarning")  # where there is none
def test_on_cuda_halves_are_switched_on_and_off() -> None:
    for context in (mixed_precision("cuda"), full_precision("cuda")):
        assert isinstance(context, torch.autocast)


class TwoScales(nn.Module):
    """Returns what deep supervision does, and keeps the type that it computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 2, 3, padding=1)
        self.seen: torch.dtype | None = None

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.convolution(images)
        self.seen = features.dtype
        return [features, features[:, :, ::2]]


def test_a_network_in_halves_returns_and_learns_in_float32() -> None:
    torch.manual_seed(0)
    network, images = TwoScales(), torch.randn(1, 1, 8, 8, 8)
    exact = network(images)
    compute_in_halves_on_cpu(network)
    fine, coarse = network(images)

    assert network.seen is torch.bfloat16
    assert fine.dtype is coarse.dtype is torch.float32
    torch.testing.assert_close(fine, exact[0], rtol=0.02, atol=0.02)  # bfloat16 keeps 8 bits
    fine.square().mean().backward()
    assert all(p.dtype is p.grad.dtype is torch.float32 for p in network.parameters() if p.grad is not None)
    assert set(network.state_dict()) == {"convolution.weight", "convolution.bias"}


@pytest.mark.parametrize(
    ("trainer", "key", "settings"),
    [("nnUNetTrainerVolF", "volf", {}), ("nnUNetTrainerVoCo", "volf_voco", {"width": 16})],
)
def test_a_pretraining_in_halves_comes_near_to_one_in_float32(
    phantoms: NnUNetFolders, trainer: str, key: str, settings: dict[str, Any]
) -> None:
    losses = {p: losses_of(with_settings(key=key, cpu_precision=p, **settings), trainer) for p in HALVES_AND_WHOLES}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02, abs=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_a_fine_tuning_in_halves_comes_near_to_one_in_float32(phantoms: NnUNetFolders) -> None:
    losses = {p: losses_of(with_fine_tuning(cpu_precision=p), FINE_TUNER) for p in HALVES_AND_WHOLES}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02, abs=0.02)
    assert losses["bfloat16"] != losses["float32"]


def losses_of(plans: str, name: str) -> list[float]:
    trainer = make_trainer(plans, name)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_train)
    return [float(trainer.train_step(batch)["loss"]) for _ in range(3)]
