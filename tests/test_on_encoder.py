"""A head on a U-Net's encoder, whose state is the U-Net's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn

from nnunet_volf.errors import TrainingError
from nnunet_volf.networks import FMUNet, PCTNet
from nnunet_volf.pretext.on_encoder import OnEncoder

SHAPE: dict[str, Any] = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": nn.Conv3d,
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
}
NNUNETS: dict[str, Any] = {
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"affine": True},
    "nonlin": nn.LeakyReLU,
    "conv_bias": True,
    "n_conv_per_stage_decoder": 1,
}
UNETS = {
    "plain": lambda: PlainConvUNet(1, n_conv_per_stage=1, num_classes=1, **SHAPE, **NNUNETS),
    "residual": lambda: ResidualEncoderUNet(1, n_blocks_per_stage=1, num_classes=1, **SHAPE, **NNUNETS),
    "pctnet": lambda: PCTNet(input_channels=1, num_classes=1, norm_op=nn.InstanceNorm3d, **SHAPE),
    "fmunet": lambda: FMUNet(input_channels=1, num_classes=1, **SHAPE),
}


class Means(nn.Module):
    """The means of the deepest features, through a layer that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, encoder: Any, images: Tensor) -> Any:
        return self.layer(encoder(images)[-1].mean((2, 3, 4)))


@pytest.fixture(params=UNETS)
def unet(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = UNETS[request.param]()
    return made


def test_its_state_is_that_of_the_unet_name_by_name(unet: nn.Module) -> None:
    expected = {name: value.clone() for name, value in unet.state_dict().items()}
    state = OnEncoder(unet, Means()).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_it_loads_the_state_of_a_unet_and_leaves_the_head(unet: nn.Module) -> None:
    changed = {name: value + 1 if value.is_floating_point() else value for name, value in unet.state_dict().items()}
    network = OnEncoder(unet, Means())
    head = {name: value.clone() for name, value in network.head.state_dict().items()}
    network.load_state_dict(changed)
    assert all(torch.equal(value, changed[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, head[name]) for name, value in network.head.state_dict().items())


def test_a_state_that_is_not_the_unets_is_refused(unet: nn.Module) -> None:
    network = OnEncoder(unet, Means())
    state = network.state_dict()
    del state[next(iter(state))]
    with pytest.raises(RuntimeError, match="Missing key"):
        network.load_state_dict(state)


def test_encoder_and_head_learn_and_the_decoder_does_not(unet: nn.Module) -> None:
    network = OnEncoder(unet, Means())
    network(torch.randn(2, 1, 16, 16, 16)).square().sum().backward()
    without = {name for name, p in network.named_parameters() if p.requires_grad and p.grad is None}
    assert without == set(), "DDP would wait for these"
    learning = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert learning == {"encoder", "head"}


def test_a_context_on_the_deepest_features_learns_and_is_the_unets() -> None:
    unet = UNETS["plain"]()
    unet.context = nn.Conv3d(8, 8, 1)
    network = OnEncoder(unet, Means())
    images = torch.randn(2, 1, 16, 16, 16)
    deepest = unet.encoder(images)[-1]
    assert torch.equal(network.features(images)[-1], unet.context(deepest))
    assert "context.weight" in network.state_dict()
    network(images).sum().backward()
    assert unet.context.weight.grad is not None


def test_a_network_without_an_encoder_is_refused_by_name() -> None:
    with pytest.raises(TrainingError, match="Sequential has no encoder and no decoder, which this pretext trains"):
        OnEncoder(nn.Sequential(nn.Conv3d(1, 1, 1)), Means())
