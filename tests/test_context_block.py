"""The context block and the networks around it: what it computes, that it starts as nothing, and how plans hold it."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn
from torch.nn import functional

from nnunet_volf.errors import SettingsError, WeightsError
from nnunet_volf.networks import ContextUNet
from nnunet_volf.networks.catalogue import (
    NETWORKS,
    architecture_entry,
    context_planned,
    describe_network,
    network_in,
    network_planned,
    plans_name_with,
)
from nnunet_volf.networks.context_block import ContextBlock
from nnunet_volf.networks.context_plans import CONTEXT_UNET, context_in, has_context, with_context, without_context
from nnunet_volf.networks.memory import kept_values
from nnunet_volf.weights.architectures import check_buildable
from nnunet_volf.weights.pretrained import Architecture

UNETS = "dynamic_network_architectures.architectures.unet"
KINDS = ["PlainConvUNet", "ResidualEncoderUNet", "PCTNet", "FMUNet"]
PATCH = (8, 16, 16)


def entry(kind: str = "PlainConvUNet", dimensions: int = 3, flat_axis: bool = False) -> dict[str, Any]:
    """A network of three stages; with `flat_axis` its first axis is never halved or convolved."""
    side, step = [3] * dimensions, [2] * dimensions
    if flat_axis:
        side[0] = step[0] = 1
    kernels, strides = [side] * 3, [[1] * dimensions, step, step]
    if kind in ("PCTNet", "FMUNet"):
        operation = f"torch.nn.modules.conv.Conv{dimensions}d"
        made = architecture_entry(NETWORKS[kind.lower()], 3, kernels, strides, operation)
        made["arch_kwargs"]["features_per_stage"] = [4, 6, 8]
        return made
    depth = "n_blocks_per_stage" if kind == "ResidualEncoderUNet" else "n_conv_per_stage"
    return {
        "network_class_name": f"{UNETS}.{kind}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": kernels,
            "strides": strides,
            depth: [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def built(architecture: dict[str, Any], **options: Any) -> Any:
    """As nnU-Net builds it from plans."""
    torch.manual_seed(0)
    names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    given = (copy.deepcopy(architecture)[name] for name in names)
    return get_network_from_plans(*given, 2, 3, **{"deep_supervision": True, **options})


def both(kind: str, dimensions: int = 3, **options: Any) -> tuple[Any, Any]:
    plain = entry(kind, dimensions)
    return built(plain, **options), built(with_context(plain, PATCH[:dimensions]), **options)


def stirred(block: ContextBlock) -> ContextBlock:
    """Weights as a training may leave them."""
    torch.manual_seed(1)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


# -------------------------------------------------------------------------------------- the block


def literal_block(block: ContextBlock, x: np.ndarray, dilations: list[list[int]]) -> np.ndarray:
    """Voxel by voxel, in double precision: what the page says, and no convolution of torch's."""
    weights = {name: value.double().numpy() for name, value in block.state_dict().items()}
    sizes = x.shape[2:]

    def convolved(weight: np.ndarray, dilation: list[int]) -> np.ndarray:
        out = np.zeros((x.shape[0], weight.shape[0], *sizes))
        for voxel in np.ndindex(*sizes):
            for tap in np.ndindex(*weight.shape[2:]):
                offset = [(t - n // 2) * d for t, n, d in zip(tap, weight.shape[2:], dilation, strict=True)]
                place = tuple(v + o for v, o in zip(voxel, offset, strict=True))
                if all(0 <= p < n for p, n in zip(place, sizes, strict=True)):
                    out[(..., *voxel)] += x[(..., *place)] @ weight[(slice(None), slice(None), *tap)].T
        return out

    def activated(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, values, 0.01 * values)

    def normalised(values: np.ndarray, name: str) -> np.ndarray:
        axes = tuple(range(2, values.ndim))
        scale, offset = (weights[f"{name}.1.{what}"].reshape(1, -1, *[1] * len(axes)) for what in ("weight", "bias"))
        away = values - values.mean(axes, keepdims=True)
        return activated(away / np.sqrt(values.var(axes, keepdims=True) + 1e-5) * scale + offset)

    straight = [1] * len(sizes)
    seen = [normalised(convolved(weights["point.0.weight"], straight), "point")]
    for number, dilation in enumerate(dilations):
        name = f"dilated.{number}"
        seen.append(normalised(convolved(weights[f"{name}.0.weight"], dilation), name))
    mean = x.mean(axis=tuple(range(2, x.ndim)))
    everything = activated(mean @ weights["mean.0.weight"].reshape(-1, x.shape[1]).T + weights["mean.0.bias"])
    seen.append(np.broadcast_to(everything.reshape(*everything.shape, *straight), (*everything.shape, *sizes)))
    merged = np.einsum("oi,bi...->bo...", weights["merge.weight"].reshape(x.shape[1], -1), np.concatenate(seen, axis=1))
    return x + merged + weights["merge.bias"].reshape(1, -1, *straight)


@pytest.mark.parametrize(
    ("sizes", "kernel", "dilations"),
    [
        ((4, 4, 4), [3, 3, 3], [[1, 1, 1], [2, 2, 2], [3, 3, 3]]),
        ((2, 5, 4), [1, 3, 3], [[1, 1, 1], [1, 2, 2], [1, 3, 3]]),
        ((2, 2, 2), [3, 3, 3], [[1, 1, 1]] * 3),
        ((6, 5), [3, 3], [[1, 1], [2, 2], [3, 3]]),
    ],
)
def test_the_block_is_what_its_description_says(sizes: tuple[int, ...], kernel: list[int], dilations: Any) -> None:
    operation: Any = nn.Conv3d if len(sizes) == 3 else nn.Conv2d
    block = stirred(ContextBlock(operation, 8, kernel, dilations))
    x = np.random.default_rng(2).normal(size=(2, 8, *sizes))
    expected = literal_block(block, x, dilations)
    with torch.no_grad():
        found = block.double()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert not np.allclose(found, x, atol=0.1)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=3).filter(lambda sides: np.prod(sides) > 1),
    features=st.integers(1, 9),
    flat=st.booleans(),
)
def test_for_features_of_any_size_it_starts_as_the_identity_and_learns(
    sizes: list[int], features: int, flat: bool
) -> None:
    kernel = [1 if flat and not axis else 3 for axis in range(len(sizes))]
    architecture = {
        "network_class_name": "some.UNet",
        "arch_kwargs": {"strides": [[1] * len(sizes)], "kernel_sizes": [kernel]},
        "_kw_requires_import": [],
    }
    dilations = with_context(architecture, sizes)["arch_kwargs"]["context_dilations"]
    for one in dilations:
        for reach, size, side in zip(one, sizes, kernel, strict=True):
            assert 1 <= reach <= (max(1, min(3, size - 1)) if side > 1 else 1)
    operation: Any = nn.Conv3d if len(sizes) == 3 else nn.Conv2d
    block = ContextBlock(operation, features, kernel, dilations)
    x = torch.randn(2, features, *sizes)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.merge.weight.grad is not None
    assert all(parameter.grad is not None for parameter in block.parameters())
    assert block.merge.bias is not None
    assert block.merge.bias.grad is not None
    assert block.merge.bias.grad.any(), "the way out of the identity"


def test_every_weight_of_the_block_has_a_gradient_once_it_is_no_longer_the_identity() -> None:
    block = stirred(ContextBlock(nn.Conv3d, 8, [3, 3, 3], [[1] * 3, [2] * 3, [3] * 3]))
    block(torch.randn(2, 8, 4, 4, 4)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in block.parameters())


def test_it_sees_as_far_as_the_features_go() -> None:
    """A change in one corner reaches the opposite one, through the mean if through nothing else."""
    block = stirred(ContextBlock(nn.Conv3d, 4, [3, 3, 3], [[1] * 3, [2] * 3, [3] * 3])).eval()
    x = torch.randn(1, 4, 8, 8, 8)
    changed = x.clone()
    changed[..., 0, 0, 0] += 5
    with torch.no_grad():
        assert (block(x) - block(changed))[..., 7, 7, 7].abs().max() > 1e-4


def test_at_320_features_it_has_the_parameters_that_the_page_says() -> None:
    block = ContextBlock(nn.Conv3d, 320, [3, 3, 3], [[1] * 3, [2] * 3, [3] * 3])
    assert sum(parameter.numel() for parameter in block.parameters()) == pytest.approx(2.25e6, rel=0.01)


# --------------------------------------------------------------------------------- in a network


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_same_seed_it_is_the_same_network_to_the_bit(kind: str) -> None:
    plain, with_block = both(kind)
    weights, own = with_block.state_dict(), plain.state_dict()
    assert list(own) == [name for name in weights if not name.startswith("context.")]
    assert all(torch.equal(weights[name], value) for name, value in own.items())
    x = torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        for one, other in zip(plain.eval()(x), with_block.eval()(x), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet", "FMUNet"])
def test_there_is_one_in_2d(kind: str) -> None:
    plain, with_block = both(kind, dimensions=2)
    x = torch.randn(1, 2, *PATCH[:2])
    with torch.no_grad():
        assert torch.equal(plain.eval()(x)[0], with_block.eval()(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_block_makes_of_the_deepest_features_is_what_the_decoder_gets(kind: str) -> None:
    plain, with_block = both(kind)
    stirred(with_block.context)
    x = torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        *finer, deepest = plain.eval().encoder(x)
        expected = plain.decoder([*finer, with_block.eval().context(deepest)])
        for one, other in zip(expected, with_block(x), strict=True):
            assert torch.equal(one, other)
        assert not torch.allclose(expected[0], plain(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_initialised_as_nnunet_does_it_the_block_is_the_identity_and_its_branches_are_not_dead(kind: str) -> None:
    block = both(kind)[1].context
    assert not block.merge.weight.any()
    assert not block.merge.bias.any()
    assert all(branch[0].weight.std() > 0.01 for branch in (block.point, *block.dilated, block.mean))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_takes_part_in_a_step_as_training_on_several_gpus_asks(kind: str) -> None:
    network = both(kind)[1]
    sum(output.square().mean() for output in network(torch.randn(2, 2, *PATCH))).backward()
    if kind == "PCTNet":  # which leaves out paths at random
        return
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]


def test_supervision_is_switched_as_nnunet_switches_it() -> None:
    network = both("PlainConvUNet")[1].eval()
    x = torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        outputs = network(x)
        network.decoder.deep_supervision = False
        assert torch.equal(network(x), outputs[0])
    assert len(outputs) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_network_is_one_graph_and_gives_the_same(kind: str) -> None:
    network = both(kind)[1].eval()
    stirred(network.context)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    x = torch.randn(1, 2, *PATCH)
    for ours, theirs in zip(network(x), compiled(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch._dynamo.reset()


def test_half_precision_gives_nearly_the_same() -> None:
    network = both("PlainConvUNet")[1].eval()
    stirred(network.context)
    x = torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        exact = network(x)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(x)[0]
    assert (half.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_nnunet_finds_encoder_and_stem(kind: str) -> None:
    plain, with_block = both(kind)
    for key in ("key_to_encoder", "key_to_stem", "keys_to_in_proj"):
        assert getattr(with_block, key) == getattr(plain, key)
    for key in (with_block.key_to_encoder, with_block.key_to_stem, *with_block.keys_to_in_proj):
        with_block.get_submodule(key)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_the_networks_own_and_what_the_block_keeps(kind: str) -> None:
    plain, with_block = both(kind)
    alone = plain.compute_conv_feature_map_size(PATCH)
    more = with_block.compute_conv_feature_map_size(PATCH) - alone
    deepest = tuple(side // 4 for side in PATCH)
    assert more == kept_values(with_block.context, (1, 8, *deepest)) // 2
    assert 0 < more < 0.1 * alone
    # The features, five branches before and after their activation or normalisation: of the order of two values each.
    assert 2 * more == pytest.approx(8 * np.prod(deepest) * (1 + 2 * 5 / 4), rel=0.5)


def test_a_network_without_an_encoder_is_refused() -> None:
    class Whole(nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()

    with pytest.raises(SettingsError, match=r"Whole has no encoder and no decoder\. It works with nnU-Net's U-Nets"):
        ContextUNet(1, 2, Whole, [4], nn.Conv3d, [[3] * 3], [[1] * 3], [[1] * 3])


# ------------------------------------------------------------------------------------- in plans


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_in_plans_is_the_networks_with_two_arguments_more_and_can_be_taken_back(kind: str) -> None:
    plain = entry(kind)
    made = with_context(plain, PATCH)
    assert json.loads(json.dumps(made)) == made
    assert made["network_class_name"] == "nnunet_volf.networks.ContextUNet"
    assert made["_kw_requires_import"] == ["network", *plain["_kw_requires_import"]]
    more = {name: value for name, value in made["arch_kwargs"].items() if name not in plain["arch_kwargs"]}
    assert more == {
        "network": plain["network_class_name"],
        "context_dilations": [[1, 1, 1], [1, 2, 2], [1, 3, 3]],  # 2 x 4 x 4 features: one voxel to either side
    }
    assert without_context(made) == plain
    assert without_context(plain) == plain
    assert has_context(made)
    assert not has_context(plain)


def test_where_an_axis_has_no_kernel_there_is_no_dilation() -> None:
    made = with_context(entry(flat_axis=True), (5, 32, 32))
    assert made["arch_kwargs"]["context_dilations"] == [[1, 1, 1], [1, 2, 2], [1, 3, 3]]
    assert built(made)(torch.randn(1, 2, 5, 32, 32))[0].shape == (1, 3, 5, 32, 32)


def test_plans_tell_network_and_block() -> None:
    plain, pctnet = entry(), with_context(entry("PCTNet"), PATCH)
    plans = {
        "configurations": {
            "2d": {"architecture": plain},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres"},
            "3d_fullres": {"architecture": pctnet},
        }
    }
    assert network_in(plans) == network_planned(plans, "3d_cascade_fullres") == NETWORKS["pctnet"]
    assert context_in(plans)
    assert not context_in({"configurations": {"2d": {"architecture": plain}, "other": {}}})
    assert {name: context_planned(plans, name) for name in (*plans["configurations"], "other")} == {
        "2d": False, "3d_cascade_fullres": True, "3d_fullres": True, "other": False,
    }  # fmt: skip
    assert (
        describe_network(pctnet) == "PCT-Net, 3 stages, 4 to 8 features, attention in the coarsest, and a context block"
    )
    assert (
        describe_network(with_context(plain, PATCH)) == "PlainConvUNet, 3 stages, 4 to 8 features, and a context block"
    )


@pytest.mark.parametrize(
    ("network", "planners", "name"),
    [
        (None, "nnUNetPlans", "nnUNetContextPlans"),
        ("pctnet", "nnUNetPlans", "nnUNetPCTNetContextPlans"),
        (None, "nnUNetResEncUNetLPlans", "nnUNetResEncUNetLContextPlans"),
        ("fmunet", "nnUNetResEncUNetLPlans_torchres", "nnUNetFMUNetLContextPlans_torchres"),
        (None, "Mine", "MineContext"),
    ],
)
def test_plans_are_named_after_the_block_too(network: str | None, planners: str, name: str) -> None:
    assert plans_name_with(NETWORKS[network] if network else None, planners, context=True) == name


def described(**arguments: Any) -> Architecture:
    made = with_context(entry(), PATCH)
    return Architecture(
        made["network_class_name"], {**made["arch_kwargs"], **arguments}, tuple(made["_kw_requires_import"])
    )


def test_a_described_block_is_built_about_known_networks_only() -> None:
    check_buildable(described())
    for strange in ("os.system", "nnunet_volf.cli.main"):
        with pytest.raises(WeightsError, match=f"The network class {strange} is not one of nnU-Net's or ours"):
            check_buildable(described(network=strange))
    for strange in (None, CONTEXT_UNET, 7):
        with pytest.raises(WeightsError, match="a context block about no network that it names"):
            check_buildable(described(network=strange))
    for strange in (None, 7, [[1, 1, 1]] * 1000):
        with pytest.raises(WeightsError, match="no sound number of branches"):
            check_buildable(described(context_dilations=strange))
    with pytest.raises(WeightsError, match="which is no layer of torch"):
        check_buildable(described(conv_op="os.system"))


def test_the_class_is_found_as_nnunet_looks_for_it() -> None:
    network = built(with_context(entry(), PATCH))
    assert type(network) is ContextUNet
    assert type(network.encoder) is type(built(entry()).encoder)
    assert network._network.func is PlainConvUNet
    functional.mse_loss(network(torch.zeros(1, 2, *PATCH))[0], torch.zeros(1, 3, *PATCH))
