"""What a task's network takes over from other networks: matrix of plans, and the response that is kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from weight_files import random_tensors, task_of, weights_from

from nnunet_volf.weights.choices import ADAPTED, CARRIED, HEAD, MISSING, SKIPPED
from nnunet_volf.weights.matching import Match, as_stock_loads, match
from nnunet_volf.weights.names import canonical, canonical_name, is_head
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.target import Task

KERNELS_FLAT = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES_FLAT = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]


def outcomes(matched: Match) -> dict[str, str]:
    return {row.name: row.outcome for row in matched.rows}


def built(task: Task, matched: Match, heads: dict[str, torch.Tensor] | None = None) -> torch.nn.Module:
    """Return the task's network with what was taken over, and these heads."""
    network = task.network()
    values = {row.name: row.value for row in matched.rows if row.value is not None} | (heads or {})
    network.load_state_dict({n: values.get(canonical_name(n), t) for n, t in network.state_dict().items()})
    network.decoder.deep_supervision = False
    return network.eval()


def original(task: Task, pretrained: Pretrained) -> torch.nn.Module:
    network = task.network()
    network.load_state_dict({n: pretrained.tensors[canonical_name(n)] for n in network.state_dict()})
    network.decoder.deep_supervision = False
    return network.eval()


def heads_of(pretrained: Pretrained) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in pretrained.tensors.items() if is_head(name)}


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("network", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_weights_of_the_same_plans_are_carried_over_whole(network: str, dimensions: int) -> None:
    task = task_of(network=network, dimensions=dimensions)
    pretrained = weights_from(task)
    matched = match(pretrained, task)
    assert {row.outcome for row in matched.rows} == {CARRIED, HEAD}
    assert matched.share(CARRIED) == 1
    assert matched.left == ()
    assert as_stock_loads(pretrained.stored, task) == []
    for row in matched.rows:
        if row.outcome == CARRIED:
            assert torch.equal(row.value, pretrained.tensors[row.name])
        else:
            assert row.value is None


def test_other_labels_change_the_heads_only() -> None:
    pretrained = weights_from(task_of(labels=("a", "b", "c")))
    matched = match(pretrained, task_of())
    assert matched.share(CARRIED) == 1
    assert all(is_head(row.name) for row in matched.rows if row.outcome == HEAD)
    assert any(row.outcome == HEAD for row in matched.rows)


def test_one_channel_becomes_four_and_an_image_repeated_in_them_gives_the_same_segmentation() -> None:
    one, four = task_of(), task_of(channels=("T1", "T1c", "T2", "FLAIR"))
    pretrained = weights_from(one)
    matched = match(pretrained, four)
    changed = [row for row in matched.rows if row.outcome == ADAPTED]
    assert [row.name for row in changed] == ["encoder.stages.0.0.convs.0.conv.weight"]
    assert changed[0].detail == "MRI sees the mean of T1, T1c, T2, FLAIR"
    picture = image(1, 1, 16, 16, 16)
    now = built(four, matched, heads_of(pretrained))(picture.expand(1, 4, 16, 16, 16))
    torch.testing.assert_close(now, original(one, pretrained)(picture), atol=1e-3, rtol=1e-3)


def test_four_channels_become_one_and_the_image_repeated_gives_the_same_segmentation() -> None:
    four, one = task_of(channels=("T1", "T1c", "T2", "FLAIR")), task_of(channels=("CT",))
    pretrained = weights_from(four)
    matched = match(pretrained, one)
    picture = image(1, 1, 16, 16, 16)
    now = built(one, matched, heads_of(pretrained))(picture)
    torch.testing.assert_close(now, original(four, pretrained)(picture.expand(1, 4, 16, 16, 16)), atol=1e-3, rtol=1e-3)


def test_channels_in_another_order_are_noticed_although_every_shape_agrees() -> None:
    pretrained = weights_from(task_of(channels=("T1", "T2")))
    turned = task_of(channels=("T2", "T1"))
    matched = match(pretrained, turned)
    (row,) = (row for row in matched.rows if row.outcome == ADAPTED)
    assert torch.equal(row.value, pretrained.tensors[row.name].flip(1))
    assert as_stock_loads(pretrained.stored, turned) == []  # which is why it has to be said


def test_the_earlier_stage_of_a_cascade_starts_without_influence() -> None:
    task = task_of()
    shapes = {n: (s[0], 3, *s[2:]) if n == task.first_layer else s for n, s in task.shapes.items()}
    cascade = dataclasses.replace(task, segmentation_inputs=2, shapes=shapes)
    pretrained = weights_from(task)
    (row,) = (row for row in match(pretrained, cascade).rows if row.outcome == ADAPTED)
    assert torch.equal(row.value[:, :1], pretrained.tensors[row.name])
    assert not row.value[:, 1:].any()
    assert row.detail == "MRI sees MRI; segmentation 1, segmentation 2 from zero"


def test_weights_of_a_cascade_go_into_the_same_cascade_unchanged() -> None:
    task = task_of()
    shapes = {n: (s[0], 3, *s[2:]) if n == task.first_layer else s for n, s in task.shapes.items()}
    cascade = dataclasses.replace(task, segmentation_inputs=2, shapes=shapes)
    tensors = {n: torch.randn(shape) for n, shape in shapes.items()}
    pretrained = dataclasses.replace(weights_from(task), tensors=tensors)
    assert match(pretrained, cascade).share(CARRIED) == 1


def test_isotropic_kernels_take_flat_ones_and_answer_the_same() -> None:
    flat = task_of(kernels=[[1, 3, 3]] * 3, strides=STRIDES_FLAT)
    deep = task_of(strides=STRIDES_FLAT)
    pretrained = weights_from(flat)
    matched = match(pretrained, deep)
    assert set(outcomes(matched).values()) == {CARRIED, ADAPTED, HEAD}
    picture = image(1, 1, 16, 16, 16)
    now = built(deep, matched, heads_of(pretrained))(picture)
    torch.testing.assert_close(now, original(flat, pretrained)(picture), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("network", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_a_volume_of_equal_slices_is_segmented_in_3d_as_its_slice_was_in_2d(network: str) -> None:
    flat, deep = task_of(dimensions=2, network=network), task_of(network=network)
    pretrained = weights_from(flat)
    matched = match(pretrained, deep)
    assert matched.share(CARRIED, ADAPTED) == 1
    picture = image(1, 1, 16, 16)
    heads = {n: t.unsqueeze(2) if t.ndim == 4 else t for n, t in heads_of(pretrained).items()}
    now = built(deep, matched, heads)(picture[:, :, None].expand(1, 1, 16, 16, 16))
    expected = original(flat, pretrained)(picture)
    for z in range(16):
        torch.testing.assert_close(now[:, :, z], expected, atol=1e-3, rtol=1e-3)


def test_strides_that_differ_adapt_the_upsampling() -> None:
    matched = match(weights_from(task_of()), task_of(strides=STRIDES_FLAT, kernels=KERNELS_FLAT))
    details = {row.name: row.detail for row in matched.rows if row.outcome == ADAPTED}
    assert details["decoder.transpconvs.1.weight"] == "upsampling 2x2x2 -> 1x2x2"
    assert details["encoder.stages.0.0.convs.0.conv.weight"] == "kernel 3x3x3 -> 1x3x3"
    assert "decoder.transpconvs.0.weight" not in details


def test_a_deeper_network_takes_the_stages_that_it_shares_by_their_resolution() -> None:
    shallow, deep = task_of(features=(4, 6, 8)), task_of(features=(4, 6, 8, 8))
    pretrained = weights_from(shallow)
    matched = match(pretrained, deep)
    became = outcomes(matched)
    assert became["encoder.stages.2.0.convs.0.conv.weight"] == CARRIED
    assert became["encoder.stages.3.0.convs.0.conv.weight"] == MISSING
    assert became["decoder.stages.0.convs.0.conv.weight"] == MISSING  # the deepest decoder stage is the new one
    source = {row.name: row.source for row in matched.rows}
    assert source["decoder.stages.2.convs.0.conv.weight"] == "decoder.stages.1.convs.0.conv.weight"
    assert source["decoder.transpconvs.1.weight"] == "decoder.transpconvs.0.weight"
    skips = [original(shallow, pretrained).encoder, built(deep, matched).encoder]
    for was, now in zip(*(encoder(image(1, 1, 16, 16, 16)) for encoder in skips), strict=False):
        torch.testing.assert_close(now, was)


def test_a_shallower_network_leaves_the_deepest_stages_out() -> None:
    matched = match(weights_from(task_of(features=(4, 6, 8, 8))), task_of(features=(4, 6, 8)))
    assert matched.share(CARRIED) == 1
    assert "encoder.stages.3.0.convs.0.conv.weight" in matched.left
    assert "decoder.stages.0.convs.0.conv.weight" in matched.left


def test_other_numbers_of_features_are_skipped_with_the_numbers() -> None:
    matched = match(weights_from(task_of(features=(4, 6, 8))), task_of(features=(4, 6, 10)))
    rows = {row.name: row for row in matched.rows}
    row = rows["encoder.stages.2.0.convs.0.conv.weight"]
    assert (row.outcome, row.value) == (SKIPPED, None)
    assert row.detail == "features 8 x 6 in the file, 10 x 6 in the network"
    assert rows["encoder.stages.1.0.convs.0.conv.weight"].outcome == CARRIED


def test_more_convolutions_a_stage_are_missing_where_the_file_has_none() -> None:
    matched = match(weights_from(task_of()), task_of(convolutions=2))
    became = outcomes(matched)
    assert became["encoder.stages.1.0.convs.0.conv.weight"] == CARRIED
    assert became["encoder.stages.1.0.convs.1.conv.weight"] == MISSING


def test_a_plain_networks_first_convolution_becomes_the_stem_and_its_decoder_is_kept() -> None:
    plain, residual = task_of(), task_of(network="ResidualEncoderUNet")
    pretrained = weights_from(plain)
    matched = match(pretrained, residual)
    rows = {row.name: row for row in matched.rows}
    stem = rows["encoder.stem.convs.0.conv.weight"]
    assert (stem.outcome, stem.detail) == (CARRIED, "from encoder.stages.0.0.convs.0.conv.weight")
    assert rows["decoder.stages.0.convs.0.conv.weight"].outcome == CARRIED
    assert rows["encoder.stages.0.blocks.0.conv1.conv.weight"].outcome == MISSING
    picture = image(1, 1, 16, 16, 16)
    was = original(plain, pretrained).encoder.stages[0][0].convs[0](picture)
    torch.testing.assert_close(built(residual, matched).encoder.stem(picture), was)


def test_a_residual_networks_stem_becomes_a_plain_ones_first_convolution() -> None:
    matched = match(weights_from(task_of(network="ResidualEncoderUNet")), task_of())
    rows = {row.name: row for row in matched.rows}
    assert rows["encoder.stages.0.0.convs.0.conv.weight"].source == "encoder.stem.convs.0.conv.weight"


def test_the_scope_encoder_leaves_the_decoder_as_it_was_initialised() -> None:
    task = task_of()
    matched = match(weights_from(task), task, scope="encoder")
    for row in matched.rows:
        expected = CARRIED if row.name.startswith("encoder.") else HEAD if is_head(row.name) else SKIPPED
        assert row.outcome == expected
        assert (row.value is None) == (expected != CARRIED)


def test_shares_are_of_parameters_and_leave_the_heads_out() -> None:
    task = task_of(features=(4, 6, 10))
    matched = match(weights_from(task_of(features=(4, 6, 8))), task)
    total = carried = 0
    for name, shape in canonical(task.stored_shapes).items():
        if ".seg_layers." not in name:
            total += int(torch.zeros(shape).numel())
            carried += int(torch.zeros(shape).numel()) * (outcomes(matched)[name] == CARRIED)
    assert matched.share(CARRIED) == pytest.approx(carried / total)
    assert 0 < carried < total
    assert matched.share(CARRIED, SKIPPED) == 1


def test_what_nnunet_would_stop_at_is_told_by_name_and_shape() -> None:
    task = task_of()
    stored = {name: tuple(tensor.shape) for name, tensor in random_tensors(task).items()}
    del stored["decoder.transpconvs.0.weight"]
    stored["encoder.stages.0.0.convs.0.conv.weight"] = (4, 2, 3, 3, 3)
    stored.pop("decoder.seg_layers.0.weight")  # nobody asks for heads
    assert as_stock_loads(stored, task) == [
        "encoder.stages.0.0.convs.0.conv.weight is 4 x 2 x 3 x 3 x 3 in the file and 4 x 1 x 3 x 3 x 3 in the network",
        "decoder.transpconvs.0.weight is not in the file",
    ]


def test_a_tensor_of_another_kind_under_the_same_name_is_skipped() -> None:
    task = task_of()
    pretrained = weights_from(task)
    strange = {**pretrained.tensors, "decoder.transpconvs.0.weight": torch.zeros(8, 6)}
    rows = {row.name: row for row in match(dataclasses.replace(pretrained, tensors=strange), task).rows}
    row = rows["decoder.transpconvs.0.weight"]
    assert (row.outcome, row.detail) == (SKIPPED, "8 x 6 in the file, 8 x 6 x 2 x 2 x 2 in the network")


def test_the_same_seed_gives_the_same_network_and_leaves_the_random_state_alone() -> None:
    task = task_of()
    before = torch.random.get_rng_state()
    first, second, other = (task.network(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
