"""Where each layer sits, and which layers learn together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_volf.errors import TrainingError
from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.networks import FMUNet, PCTNet
from nnunet_volf.parameter_groups import Layer, group_parameters, place_layers

OURS: tuple[type[nn.Module], ...] = (PCTNet, FMUNet)


def unet(kind: type[nn.Module] = PlainConvUNet, stages: int = 3) -> nn.Module:
    if kind in OURS:
        return kind(
            input_channels=1,
            n_stages=stages,
            features_per_stage=[2] * stages,
            conv_op=nn.Conv3d,
            kernel_sizes=[[3] * 3] * stages,
            strides=[[1] * 3] + [[2] * 3] * (stages - 1),
            num_classes=3,
            deep_supervision=True,
            **({"norm_op_kwargs": {"affine": True}} if kind is PCTNet else {}),
        )
    depth = "n_blocks_per_stage" if kind is ResidualEncoderUNet else "n_conv_per_stage"
    return kind(
        input_channels=1,
        n_stages=stages,
        features_per_stage=[2] * stages,
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=[1] + [2] * (stages - 1),
        num_classes=3,
        n_conv_per_stage_decoder=[1] * (stages - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
        **{depth: [1] * stages},
    )


def groups(net: nn.Module, **values: Any) -> Any:
    return group_parameters(net.named_parameters(), FineTuneSettings.from_mapping(values))


PLACES = {
    "decoder.seg_layers.1.weight": Layer("heads", 0),
    "decoder.seg_layers.0.weight": Layer("heads", 0),
    "decoder.stages.1.convs.0.conv.weight": Layer("decoder", 1),
    "decoder.transpconvs.1.weight": Layer("decoder", 1),
    "decoder.stages.0.convs.0.conv.weight": Layer("decoder", 2),
    "decoder.transpconvs.0.bias": Layer("decoder", 2),
}
PLAIN = {
    "encoder.stages.2.0.convs.0.conv.weight": Layer("encoder", 3),
    "encoder.stages.1.0.convs.0.conv.weight": Layer("encoder", 4),
    "encoder.stages.0.0.convs.0.norm.weight": Layer("encoder", 5),
}
RESIDUAL = {
    "encoder.stages.2.blocks.0.conv1.conv.weight": Layer("encoder", 3),
    "encoder.stages.1.blocks.0.conv2.norm.bias": Layer("encoder", 4),
    "encoder.stages.0.blocks.0.conv1.conv.weight": Layer("encoder", 5),
    "encoder.stem.convs.0.conv.weight": Layer("encoder", 6),
}
PCT = {
    "decoder.seg_layers.1.weight": Layer("heads", 0),
    "decoder.stages.1.out.nonlin.weight": Layer("decoder", 1),
    "decoder.stages.1.block.convs.1.conv.weight": Layer("decoder", 1),
    "decoder.stages.0.up.conv.weight": Layer("decoder", 2),
    "decoder.stages.0.merge.norm.bias": Layer("decoder", 2),
    "encoder.stages.2.block.attention.1.attention.bias_table": Layer("encoder", 3),
    "encoder.stages.2.down.conv.weight": Layer("encoder", 3),
    "encoder.stages.0.block.convs.0.conv.weight": Layer("encoder", 5),
    "encoder.stem.weight": Layer("encoder", 6),
}
# Its decoder begins with a block of its own at the deepest resolution.
FM = {
    "decoder.seg_layers.0.bias": Layer("heads", 0),
    "decoder.stages.1.out.norm.weight": Layer("decoder", 1),
    "decoder.stages.0.up.conv.weight": Layer("decoder", 2),
    "decoder.bottleneck.convs.1.conv.weight": Layer("decoder", 3),
    "encoder.stages.2.block.convs.0.conv.weight": Layer("encoder", 4),
    "encoder.stages.0.block.convs.0.conv.weight": Layer("encoder", 6),
    "encoder.stem.bias": Layer("encoder", 7),
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(PlainConvUNet, PLACES | PLAIN), (ResidualEncoderUNet, PLACES | RESIDUAL), (PCTNet, PCT), (FMUNet, FM)],
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_layers_are_farther_from_the_output_the_nearer_they_are_to_the_image(
    kind: type[nn.Module], expected: dict[str, Layer], prefix: str
) -> None:
    names = [f"{prefix}{name}" for name, _ in unet(kind).named_parameters()]
    found = place_layers(names)
    assert found.keys() == set(names)
    assert {name: found[prefix + name] for name in expected} == expected


def test_a_context_block_is_behind_the_encoder_and_waits_with_it() -> None:
    net = unet(FMUNet)
    net.add_module("context", nn.Conv3d(2, 2, 1))
    found = place_layers([name for name, _ in net.named_parameters()])
    assert found["context.weight"] == Layer("encoder", 4)
    assert found["decoder.bottleneck.convs.1.conv.weight"] == Layer("decoder", 3)
    assert {name: layer.distance for name, layer in found.items() if name in FM and layer.part == "encoder"} == {
        name: layer.distance + 1 for name, layer in FM.items() if layer.part == "encoder"
    }
    _, waits = groups(net, first="decoder")
    assert any(parameter is net.get_parameter("context.weight") for parameter in waits.parameters)


def test_a_decoder_of_more_than_ten_stages_is_counted_in_numbers_not_in_text() -> None:
    found = place_layers([f"decoder.stages.{stage}.x.weight" for stage in range(12)])
    assert [layer.distance for layer in found.values()] == list(range(12, 0, -1))


@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet, PCTNet, FMUNet])
@pytest.mark.parametrize("first", ["none", "heads", "decoder"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_every_parameter_is_in_exactly_one_group_and_the_heads_are_in_the_first(
    kind: type[nn.Module], first: str, layer_decay: float
) -> None:
    net = unet(kind, stages=4)
    made = groups(net, first=first, layer_decay=layer_decay)
    members = [id(parameter) for group in made for parameter in group.parameters]
    assert len(members) == len(set(members))
    assert set(members) == {id(parameter) for parameter in net.parameters()}
    assert made[0].scale == 1
    assert made[0].first
    assert {id(p) for name, p in net.named_parameters() if "seg_layers" in name} <= {id(p) for p in made[0].parameters}


def test_without_a_first_part_and_layer_decay_there_is_one_group_in_the_networks_own_order() -> None:
    net = unet()
    (only,) = groups(net)
    assert [id(p) for p in only.parameters] == [id(p) for p in net.parameters()]
    assert (only.scale, only.first) == (1.0, True)


@pytest.mark.parametrize("kind", [ResidualEncoderUNet, PCTNet, FMUNet])
@pytest.mark.parametrize(("first", "waiting"), [("heads", ("encoder.", "decoder.")), ("decoder", ("encoder.",))])
def test_all_but_the_first_part_waits(kind: type[nn.Module], first: str, waiting: tuple[str, ...]) -> None:
    net = unet(kind)
    trained, waits = groups(net, first=first)
    assert (trained.first, waits.first) == (True, False)
    expected = {id(p) for name, p in net.named_parameters() if name.startswith(waiting) and "seg_layers" not in name}
    assert {id(p) for p in waits.parameters} == expected


@pytest.mark.parametrize(("kind", "places"), [(ResidualEncoderUNet, 7), (PCTNet, 7), (FMUNet, 8)])
def test_the_scale_falls_with_the_distance(kind: type[nn.Module], places: int) -> None:
    made = groups(unet(kind), layer_decay=0.5)
    assert [group.scale for group in made] == [0.5**distance for distance in range(places)]
    assert all(group.first for group in made)


@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet, PCTNet, FMUNet])
@pytest.mark.parametrize(("first", "layer_decay"), [("none", 1.0), ("none", 0.5), ("heads", 1.0), ("decoder", 0.5)])
def test_the_heads_alone_have_their_own_rate_and_are_the_first_group(
    kind: type[nn.Module], first: str, layer_decay: float
) -> None:
    net = unet(kind)
    usual, (heads, *others) = (
        groups(net, first=first, layer_decay=layer_decay, heads_rate=rate) for rate in (1.0, 8.0)
    )
    assert {id(p) for p in heads.parameters} == {id(p) for n, p in net.named_parameters() if "seg_layers" in n}
    assert (heads.scale, heads.first) == (8.0, True)
    before = {id(p): (group.scale, group.first) for group in usual for p in group.parameters}
    after = {id(p): (group.scale, group.first) for group in others for p in group.parameters}
    assert after == {parameter: where for parameter, where in before.items() if parameter in after}
    assert len(after) + len(heads.parameters) == len(before)


class Other(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.eva = nn.Linear(1, 1)


def test_a_network_without_such_stages_trains_as_one_group_and_refuses_more() -> None:
    (only,) = groups(Other())
    assert len(only.parameters) == 2
    with pytest.raises(TrainingError, match=r"this one has 'eva.weight' \(2 such parameters\). Set first=none"):
        groups(Other(), first="heads")
    with pytest.raises(TrainingError, match=r"layer_decay=1 and heads_rate=1\."):
        groups(Other(), heads_rate=10)


def test_wrapped_by_torch_compile_the_groups_are_the_same() -> None:
    net = unet()
    compiled = torch.compile(net, backend="eager")  # the default one starts processes
    plain, wrapped = (groups(n, first="decoder", layer_decay=0.9) for n in (net, compiled))
    assert [(g.scale, g.first, len(g.parameters)) for g in plain] == [
        (g.scale, g.first, len(g.parameters)) for g in wrapped
    ]
