"""PCT-Net and FMUNet as nnU-Net uses them: sizes, names, supervision, gradients, memory."""

from itertools import accumulate

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.abstract_arch import test_submodules_loadable as parts_are_found
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnunet_volf.errors import SettingsError
from nnunet_volf.networks import FMUNet, PCTNet
from nnunet_volf.networks.memory import kept_values

FLAT, CUBE = [1, 2, 2], [2, 2, 2]
STRIDES = {0: [CUBE] * 4, 1: [FLAT, CUBE, CUBE, CUBE], 2: [FLAT, FLAT, CUBE, CUBE]}  # the published resolution modes
BOTH = pytest.mark.parametrize("network_class", [PCTNet, FMUNet])


def topology(steps):
    """Return the strides and kernels of a plan, flat as long as the next stride is."""
    kernels = [[1, 3, 3] if step == FLAT else [3, 3, 3] for step in steps] + [[3, 3, 3]]
    return {"n_stages": len(steps) + 1, "conv_op": nn.Conv3d, "strides": [[1, 1, 1], *steps], "kernel_sizes": kernels}


def make(network_class, steps=STRIDES[1], features=None, classes=3, inputs=1, **arguments):
    torch.manual_seed(0)
    features = features or [4, 8, 16, 32, 64, 64][: len(steps) + 1]
    return network_class(inputs, classes, features_per_stage=features, **{**topology(steps), **arguments})


def on_meta(*arguments, **named):
    with torch.device("meta"):
        return make(*arguments, **named)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def patch_for(steps, smallest=2):
    return [smallest * int(np.prod([step[axis] for step in steps])) for axis in range(len(steps[0]))]


# Counted by the published code (stems and heads that it never uses left out), for one input channel.
PCT_NET = {
    ((24, 48, 128, 256, 512), 2): (44_264_074, 44_196_826, 43_902_682),
    ((24, 48, 128, 256, 512), 5): (44_265_454, 44_198_206, 43_904_062),
    ((32, 64, 128, 256, 512), 2): (44_730_842, 44_611_482, 44_099_482),
    ((32, 64, 128, 256, 512), 5): (44_732_294, 44_612_934, 44_100_934),
}
FM_UNET = {2: (47_332_680, 47_183_496, 46_591_368), 5: (47_371_572, 47_220_660, 46_625_076)}


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize(("features", "classes"), PCT_NET)
def test_pct_net_has_as_many_parameters_as_the_published_one(features, classes, mode, reference):
    norm = {"norm_op": nn.BatchNorm3d} if reference else {"norm_op_kwargs": {"affine": True}}
    network = on_meta(PCTNet, STRIDES[mode], features, classes, reference=reference, **norm)
    assert parameters(network) == PCT_NET[features, classes][mode]


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("classes", FM_UNET)
def test_fm_unet_has_as_many_parameters_as_the_published_one(classes, mode, reference):
    network = on_meta(FMUNet, STRIDES[mode], (32, 64, 128, 256, 512), classes, reference=reference)
    assert parameters(network) == FM_UNET[classes][mode]


def test_each_part_of_pct_net_is_as_large_as_the_published_one():
    network = on_meta(PCTNet, STRIDES[1], (24, 48, 128, 256, 512), 5, norm_op_kwargs={"affine": True})
    encoder, decoder = network.encoder, network.decoder
    assert parameters(encoder.stem) == 240
    assert [parameters(stage.down) for stage in encoder.stages] == [0, 31_201, 166_113, 885_249, 3_539_969]
    attention = {128: 885_506 + 407_192, 256: 3_540_482 + 1_600_816, 512: 14_158_850 + 6_347_360}
    blocks = [10_514, 124_706, attention[128], attention[256], attention[512]]
    assert [parameters(stage.block) for stage in encoder.stages] == blocks
    assert [parameters(stage.block) for stage in decoder.stages] == blocks[-2::-1]
    ups = [parameters(stage.up) + parameters(stage.merge) for stage in decoder.stages]
    assert ups == [4_590_082, 1_148_162, 174_114, 15_218]
    heads = [
        parameters(stage.out) + parameters(head) for stage, head in zip(decoder.stages, decoder.seg_layers, strict=True)
    ]
    assert heads == [1_798, 902, 342, 174]


def test_each_part_of_fm_unet_is_as_large_as_the_published_one():
    network = on_meta(FMUNet, STRIDES[0], (32, 64, 128, 256, 512), 5)
    encoder, decoder = network.encoder, network.decoder
    blocks = [55_488, 221_568, 885_504, 3_540_480, 14_158_848]
    assert [parameters(stage.block) for stage in encoder.stages] == blocks
    assert [parameters(stage.down) for stage in encoder.stages] == [0, 55_424, 221_440, 885_248, 3_539_968]
    assert parameters(decoder.bottleneck) == blocks[-1]
    assert [parameters(stage.block) for stage in decoder.stages] == blocks[-2::-1]
    ups = [parameters(stage.up) + parameters(stage.merge) for stage in decoder.stages]
    assert ups == [3_672_576, 918_784, 230_016, 57_664]
    heads = [
        parameters(stage.out) + parameters(head) for stage, head in zip(decoder.stages, decoder.seg_layers, strict=True)
    ]
    assert heads == [35_077, 17_541, 8_773, 4_389]
    assert parameters(encoder) == 23_564_864
    assert parameters(decoder) - sum(heads) == 23_740_928


@settings(max_examples=12, deadline=None)
@given(
    network_class=st.sampled_from([PCTNet, FMUNet]),
    steps=st.lists(st.sampled_from([CUBE, FLAT, [2, 1, 2]]), min_size=1, max_size=5),
    inputs=st.integers(1, 3),
    size=st.integers(2, 3),
)
def test_any_plan_of_two_to_six_stages_gives_the_outputs_that_nnunet_supervises(network_class, steps, inputs, size):
    network = on_meta(network_class, steps, inputs=inputs, deep_supervision=True)
    patch = patch_for(steps, size)
    outputs = network(torch.empty(2, inputs, *patch, device="meta"))
    totals = list(
        accumulate([[1, 1, 1], *steps[:-1]], lambda total, step: [t * s for t, s in zip(total, step, strict=True)])
    )
    wanted = [tuple(side // t for side, t in zip(patch, total, strict=True)) for total in totals]
    assert [tuple(output.shape) for output in outputs] == [(2, 3, *sides) for sides in wanted]


def test_fm_unet_has_a_2d_form():
    network = FMUNet(
        1, 2, 3, [4, 8, 16], nn.Conv2d, [[3, 3]] * 3, [[1, 1], [2, 2], [2, 2]], deep_supervision=True
    )  # fmt: skip
    outputs = network(torch.randn(1, 1, 16, 24))
    assert [tuple(output.shape) for output in outputs] == [(1, 2, 16, 24), (1, 2, 8, 12)]


def test_pct_net_refuses_2d_and_names_the_other():
    with pytest.raises(SettingsError, match=r"PCT-Net has 3D windows, and the plan asks for Conv2d.*FMUNet"):
        PCTNet(1, 2, 2, [4, 8], nn.Conv2d, [[3, 3]] * 2, [[1, 1], [2, 2]])


@BOTH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_stages": 1}, "needs two stages or more, and the plan has n_stages = 1"),
        ({"kernel_sizes": [[3, 3, 3]] * 2}, "n_stages = 5 and 2 kernel_sizes"),
        ({"strides": [[2, 2, 2]] * 5}, r"first stride is \[2, 2, 2\]"),
    ],
)
def test_a_plan_that_describes_no_u_is_refused(network_class, change, message):
    with pytest.raises(SettingsError, match=message):
        on_meta(network_class, **change)


def test_features_that_heads_cannot_share_are_refused():
    with pytest.raises(SettingsError, match=r"100 do not split into 3 equal heads.*multiple of 32"):
        on_meta(PCTNet, features=[8, 16, 100, 128, 128])


@BOTH
def test_a_patch_that_does_not_divide_is_refused_with_what_it_has_to_divide_by(network_class):
    network = on_meta(network_class)
    with pytest.raises(SettingsError, match=r"patch of 16 x 32 x 40 does not divide .* 8 x 16 x 16"):
        network(torch.empty(1, 1, 16, 32, 40, device="meta"))


@BOTH
def test_supervision_is_switched_as_nnunet_switches_it(network_class):
    network = make(network_class).eval()
    x = torch.randn(1, 1, 16, 32, 32)
    with torch.no_grad():
        single = network(x)
        network.decoder.deep_supervision = True
        outputs = network(x)
    assert isinstance(outputs, list)
    assert torch.equal(outputs[0], single)


@BOTH
def test_gradients_reach_every_parameter(network_class):
    arguments = {"norm_op_kwargs": {"affine": True}, "drop_path": 0.0} if network_class is PCTNet else {}
    network = make(network_class, deep_supervision=True, dropout=0.0, **arguments)
    outputs = network(torch.randn(2, 1, 16, 48, 32))
    sum((output**2).mean() for output in outputs).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not without
    untouched = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    # A constant before an InstanceNorm is subtracted again, so such biases have no gradient but rounding.
    assert not [name for name in untouched if not name.endswith("bias")]


@BOTH
def test_only_the_last_convolutions_are_heads(network_class):
    three, five = on_meta(network_class, classes=3).state_dict(), on_meta(network_class, classes=5).state_dict()
    assert three.keys() == five.keys()
    different = {name for name in three if three[name].shape != five[name].shape}
    heads = {f"decoder.seg_layers.{number}.{what}" for number in range(4) for what in ("weight", "bias")}
    assert different == heads == {name for name in three if ".seg_layers." in name}


@BOTH
def test_nnunet_finds_encoder_and_stem(network_class):
    parts_are_found(make(network_class))


@BOTH
def test_nothing_is_stored_that_is_no_weight(network_class):
    arguments = {"norm_op_kwargs": {"affine": True}} if network_class is PCTNet else {}
    network = on_meta(network_class, **arguments)
    assert list(network.state_dict()) == [name for name, _ in network.named_parameters()]


@BOTH
def test_a_compiled_network_is_one_graph_and_gives_the_same(network_class):
    network = make(network_class, [CUBE, CUBE], deep_supervision=True).eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    x = torch.randn(1, 1, 28, 16, 24)
    for ours, theirs in zip(network(x), compiled(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch._dynamo.reset()


@BOTH
def test_half_precision_gives_nearly_the_same(network_class):
    network = make(network_class).eval()
    x = torch.randn(1, 1, 16, 32, 48)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(x)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_fm_unet_starts_as_nnunets_networks_do():
    network = make(FMUNet)
    network.apply(network.initialize)
    weights = network.encoder.stages[3].down.conv.weight
    assert weights.std().item() == pytest.approx((2 / (16 * 27)) ** 0.5, rel=0.05)
    assert not network.encoder.stages[3].down.conv.bias.any()


def test_upsampling_keeps_places_and_the_published_one_stretches_to_the_borders():
    ramp = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 1, 8, 8, 8)
    ours, published = (
        make(FMUNet, [CUBE], reference=reference).decoder.stages[0].up.upsample(ramp)[0, 0, :, 4, 4]
        for reference in (False, True)
    )
    places = (torch.arange(16) + 0.5) / 2 - 0.5  # of the fine voxels, in coarse ones
    torch.testing.assert_close(ours, places.clamp(0, 7))
    torch.testing.assert_close(published, torch.arange(16) * 7 / 15)


def test_dropout_leaves_out_whole_features_where_the_published_one_leaves_out_voxels():
    for reference in (False, True):
        drop = make(FMUNet, [CUBE] * 2, reference=reference).encoder.stages[2].block.convs[0].dropout
        kept = drop(torch.ones(2, 50, 4, 4, 4)).flatten(2).ne(0).float().mean(-1)
        assert bool(((kept == 0) | (kept == 1)).all()) is not reference


@BOTH
def test_the_finest_stages_have_no_dropout(network_class):
    network = make(network_class)
    for stage in (*network.encoder.stages[:2], *network.decoder.stages[2:]):
        assert not [module for module in stage.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]


def test_two_finest_stages_of_pct_net_have_no_attention_and_the_deepest_always_has():
    def with_attention(steps):
        return [hasattr(stage.block, "attention") for stage in on_meta(PCTNet, steps).encoder.stages]

    assert with_attention([CUBE] * 4) == [False, False, True, True, True]
    assert with_attention([CUBE] * 2) == [False, False, True]
    assert with_attention([CUBE]) == [False, True]


@BOTH
def test_the_published_mode_and_ours_have_the_same_weights(network_class):
    assert on_meta(network_class).state_dict().keys() == on_meta(network_class, reference=True).state_dict().keys()


# Memory


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_nnunets_networks_keep_two_values_for_each_that_nnunet_counts(mode, residual):
    arguments = {
        **topology(STRIDES[mode]),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "features_per_stage": [32, 64, 128, 256, 320],
        "deep_supervision": True,
    }
    with torch.device("meta"):
        if residual:
            network = ResidualEncoderUNet(
                1, num_classes=3, n_blocks_per_stage=[1, 3, 4, 6, 6], n_conv_per_stage_decoder=[1] * 4, **arguments
            )
        else:
            network = PlainConvUNet(
                1, num_classes=3, n_conv_per_stage=[2] * 5, n_conv_per_stage_decoder=[2] * 4, **arguments
            )
    patch = (64, 128, 128)
    assert kept_values(network, (1, 1, *patch)) / 2 == pytest.approx(
        network.compute_conv_feature_map_size(patch), rel=0.05
    )


def kept_when_run(network, x):
    """Return the number of values that a real forward pass keeps."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.untyped_storage().data_ptr(), tensor) is None or tensor, lambda t: t
    ):
        network(x)
    return sum(t.untyped_storage().nbytes() // t.element_size() for place, t in kept.items() if place not in weights)


@pytest.mark.parametrize("patch", [(16, 32, 32), (16, 48, 64)])
def test_what_is_kept_is_what_a_real_step_keeps(patch):
    network = make(FMUNet, features=[8, 16, 32, 64, 64], deep_supervision=True)
    real = kept_when_run(network, torch.randn(1, 1, *patch))
    assert kept_values(network, (1, 1, *patch)) == pytest.approx(real, rel=0.02)


def test_attention_is_counted_as_one_kernel_that_keeps_its_bias_but_no_matrix_of_all_pairs():
    """Without such a kernel, weights and dropout of each pair are kept beside the bias: twice more the pairs."""
    network = make(PCTNet, [CUBE], features=[4, 32], norm_op_kwargs={"affine": True}, deep_supervision=True)
    x = torch.randn(1, 1, 36, 36, 36)
    windows, blocks, heads = 3**3, 2, 1
    pairs = blocks * windows * heads * 216**2
    saved = kept_when_run(network, x) - kept_values(network, x.shape)
    assert 1.5 * pairs < saved < 4 * pairs


def test_counting_memory_leaves_the_network_as_it_was():
    network = make(PCTNet, norm_op=nn.BatchNorm3d).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.compute_conv_feature_map_size((16, 32, 32))
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.device.type == "cpu" and parameter.grad is None for parameter in network.parameters())
