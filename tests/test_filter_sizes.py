"""Filters of another size: a network that computes the same, and learns as fast as one whose filters have that size."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from nnunet_volf.filter_sizes import filter_sizes, normalised_filters, resize

COMMON = {
    "input_channels": 2,
    "n_stages": 3,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": 3,
    "strides": [1, 2, 2],
    "num_classes": 3,
    "n_conv_per_stage_decoder": 1,
    "conv_bias": True,
    "nonlin": nn.LeakyReLU,
}


def plain(conv: type[nn.Module] = nn.Conv2d, norm: type[nn.Module] = nn.InstanceNorm2d, **more: Any) -> nn.Module:
    kwargs = {"norm_op_kwargs": {"affine": True}} if norm is not nn.GroupNorm else {}
    return PlainConvUNet(**{**COMMON, **more}, conv_op=conv, norm_op=norm, n_conv_per_stage=2, **kwargs)


def residual() -> nn.Module:
    return ResidualEncoderUNet(
        **COMMON, conv_op=nn.Conv3d, norm_op=nn.InstanceNorm3d, norm_op_kwargs={"affine": True}, n_blocks_per_stage=2
    )


def grow(network: nn.Module, seed: int = 0) -> None:
    """Make filters larger, as training does, and biases and moments no longer those of a new network."""
    for module in network.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-12  # beside which the smallest variance here would count
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 3 * torch.rand(len(parameter), generator=draw).view(-1, *[1] * (parameter.ndim - 1)))
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=draw))
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=draw))


NETWORKS = {
    "plain, 2D": (plain, (2, 16, 16)),
    "plain, 3D": (lambda: plain(nn.Conv3d, nn.InstanceNorm3d), (2, 8, 8, 8)),
    "plain, no bias": (lambda: plain(conv_bias=False), (2, 16, 16)),
    "dropout": (lambda: plain(dropout_op=nn.Dropout2d, dropout_op_kwargs={"p": 0.3}), (2, 16, 16)),
    "batch normalisation": (lambda: plain(norm=nn.BatchNorm2d), (2, 16, 16)),
    "activation first": (lambda: plain(nonlin_first=True), (2, 16, 16)),
    "residual": (residual, (2, 8, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [False, True])
def test_filters_get_the_sizes_asked_for_and_the_network_computes_the_same(name: str, training: bool) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network = make().double().train(training)
    wanted = filter_sizes(normalised_filters(network))
    grow(network)
    images = torch.randn(2, *shape, dtype=torch.double)
    torch.manual_seed(1)
    expected = copy.deepcopy(network)(images)
    filters = normalised_filters(network)
    assert max(resize(filters, wanted)) > 1.5
    for one, other in zip(filter_sizes(filters), wanted, strict=True):
        torch.testing.assert_close(one, other)
    torch.manual_seed(1)
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(("make", "convolutions"), [(plain, 8), (residual, 17)])
def test_all_that_nnunet_normalises_is_found_and_nothing_else(make: Any, convolutions: int) -> None:
    """Plain: 2 in each stage down, 1 up. Residual: a stem, 2 blocks of 2 in each stage, 2 projections, 1 up."""
    network = make()
    found = {id(conv.weight) for conv, _ in normalised_filters(network)}
    assert len(found) == convolutions
    names = {id(tensor): name for name, tensor in network.named_parameters()}
    assert not [names[one] for one in found if "transpconvs" in names[one] or "seg_layers" in names[one]]


def test_sizes_are_the_roots_of_sums_of_squares() -> None:
    (conv, _), *_ = filters = normalised_filters(plain())
    weight = conv.weight.detach().numpy()
    literal = [math.sqrt(sum(float(value) ** 2 for value in one.ravel())) for one in weight]
    np.testing.assert_allclose(filter_sizes(filters)[0], literal, rtol=1e-5)


def test_layers_say_by_how_much_they_had_grown() -> None:
    filters = normalised_filters(plain())
    sizes = filter_sizes(filters)
    with torch.no_grad():
        for factor, (conv, _) in enumerate(filters, start=1):
            conv.weight.mul_(factor)
    assert resize(filters, sizes) == pytest.approx([float(factor + 1) for factor in range(len(filters))])
    assert resize(filters, sizes) == pytest.approx([1.0] * len(filters))


def test_a_filter_of_zeros_stays_one() -> None:
    filters = normalised_filters(plain())
    sizes = filter_sizes(filters)
    with torch.no_grad():
        filters[0][0].weight[1] = 0
    resize(filters, sizes)
    assert not filters[0][0].weight[1].any()
    assert filters[0][0].weight.isfinite().all()


@pytest.mark.parametrize(
    "chain",
    [
        (nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4)),  # mixes channels
        (nn.Conv2d(4, 4, 3), nn.GELU(), nn.InstanceNorm2d(4)),  # bends, so that a factor is no factor behind it
        (nn.Conv2d(4, 4, 3), nn.LeakyReLU()),
        (nn.ConvTranspose2d(4, 4, 3), nn.InstanceNorm2d(4)),  # its filters lie along the other axis
        (nn.InstanceNorm2d(4), nn.Conv2d(4, 4, 3)),
    ],
)
def test_what_a_factor_would_change_is_left_alone(chain: tuple[nn.Module, ...]) -> None:
    assert normalised_filters(nn.Sequential(*chain)) == []


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 8.0))
def test_a_step_turns_a_resized_filter_as_far_as_one_of_that_size(seed: int, factor: float) -> None:
    """What it is for: a filter made larger learns more slowly, and one that is given its size back does not."""
    torch.manual_seed(seed)
    chain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3))
    images, weights = torch.randn(2, 2, 8, 8), torch.randn(2, 3, 6, 6)
    larger = copy.deepcopy(chain)
    with torch.no_grad():
        larger[0].weight.mul_(factor)

    def turned(one: nn.Sequential) -> float:
        before = one[0].weight.detach().flatten().clone()
        optimizer = torch.optim.AdamW(one.parameters(), lr=1e-3, weight_decay=0.0, eps=1e-12)
        (one(images) * weights).sum().backward()
        optimizer.step()
        return float(
            torch.linalg.vector_norm(one[0].weight.detach().flatten() / before.norm() - before / before.norm())
        )

    original, resized = copy.deepcopy(chain), copy.deepcopy(larger)
    resize(normalised_filters(resized), filter_sizes(normalised_filters(original)))
    whole = turned(original)
    assert turned(larger) == pytest.approx(whole / factor, rel=0.05)
    assert turned(resized) == pytest.approx(whole, rel=0.05)
