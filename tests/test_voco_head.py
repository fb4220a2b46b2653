"""VoCo's head: projector, teacher, and what goes where."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from pretexts import given_for
from torch import nn

from nnunet_volf.networks import FMUNet, PCTNet
from nnunet_volf.pretext.on_encoder import OnEncoder
from nnunet_volf.pretext.voco.head import PositionHead, projector
from nnunet_volf.pretext.voco.pretext import VolumeContrast
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.voco.variants import VARIANTS

STRIDES = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
TOPOLOGY: dict[str, Any] = {
    "input_channels": 1,
    "num_classes": 1,
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": nn.Conv3d,
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": STRIDES,
}
NORMALISED: dict[str, Any] = {
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"affine": True},
    "nonlin": nn.LeakyReLU,
    "conv_bias": True,
    "n_conv_per_stage_decoder": [1, 1],
}


def plain() -> nn.Module:
    return PlainConvUNet(**TOPOLOGY, **NORMALISED, n_conv_per_stage=[1, 1, 1])


NETWORKS = {
    "plain": plain,
    "residual": lambda: ResidualEncoderUNet(**TOPOLOGY, **NORMALISED, n_blocks_per_stage=[1, 1, 1]),
    "PCT-Net": lambda: PCTNet(**TOPOLOGY, window_size=2),
    "FMUNet": lambda: FMUNet(**TOPOLOGY),
}


def network_for(unet: nn.Module, **settings: Any) -> tuple[VolumeContrast, Any]:
    pretext = VolumeContrast(VoCoSettings.from_mapping({"width": 12, **settings}), given_for())
    return pretext, pretext.network(unet)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_any_encoder_gives_embeddings_and_gets_gradients(name: str, variant: str) -> None:
    torch.manual_seed(0)
    _, network = network_for(NETWORKS[name](), variant=variant)
    embeddings = network(torch.randn(2, 5, 1, 8, 8, 8))
    assert embeddings.shape == (2, 2, 5, 12)
    embeddings.square().mean().backward()
    reached = {part for part, weights in network.named_parameters() if weights.grad is not None}
    assert not any(part.startswith(("decoder.", "head.teacher")) for part in reached)
    assert any(part.startswith("head.projector.") for part in reached)
    trained = [weights for part, weights in network.named_parameters() if part.startswith("encoder.")]
    assert all(weights.grad is not None for weights in trained)


def test_embeddings_are_projected_means_of_the_features_of_all_stages() -> None:
    torch.manual_seed(0)
    _, network = network_for(plain())
    crops = torch.randn(2, 5, 1, 8, 8, 8)
    features = [
        torch.cat([stage.mean(dim=(2, 3, 4))[0] for stage in network.encoder(crop[None])])
        for volume in crops
        for crop in volume
    ]
    x = torch.stack(features)
    assert x.shape == (10, 4 + 8 + 8)
    first, second, last = (layer for layer in network.head.projector if isinstance(layer, nn.Linear))
    for layer in (first, second):
        x = x @ layer.weight.T + layer.bias
        x = ((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()).clamp_min(0)
    x = x @ last.weight.T + last.bias
    torch.testing.assert_close(network(crops)[:, 0], x.reshape(2, 5, 12), atol=1e-4, rtol=1e-3)


def test_in_the_first_version_the_last_stage_alone_is_projected_and_the_student_is_its_own_teacher() -> None:
    _, network = network_for(plain(), variant="v0")
    assert next(network.head.projector.parameters()).shape == (12, 8)
    student, teacher = network(torch.randn(1, 5, 1, 8, 8, 8)).unbind(1)
    assert torch.equal(student, teacher)
    assert not any(part.startswith("teacher") for part, _ in network.head.named_parameters())


def test_the_teacher_begins_as_a_copy() -> None:
    _, network = network_for(plain())
    student, teacher = network(torch.randn(2, 5, 1, 8, 8, 8)).unbind(1)
    assert torch.equal(student, teacher)


@pytest.mark.parametrize(("variant", "encoder_too"), [("v1", True), ("v2", False)])
def test_the_teacher_follows_the_student_by_its_share(variant: str, encoder_too: bool) -> None:
    torch.manual_seed(0)
    pretext, network = network_for(plain(), variant=variant, momentum=0.75)
    head = network.head
    assert (head.teacher_encoder is not None) == encoder_too
    followed = {"projector": (head.projector, head.teacher_projector)}
    if encoder_too:
        followed["encoder"] = (network.encoder, head.teacher_encoder)
    before = {part: copy.deepcopy(teacher) for part, (_, teacher) in followed.items()}
    with torch.no_grad():
        for weights in network.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn_like(weights))
    leaders = {part: copy.deepcopy(student) for part, (student, _) in followed.items()}
    pretext.before_step(network)
    for part, (student, teacher) in followed.items():
        ends = zip(
            before[part].parameters(),
            leaders[part].parameters(),
            student.parameters(),
            teacher.parameters(),
            strict=True,
        )
        for old, leader, same, new in ends:
            assert torch.equal(leader, same), "the student stays where it is"
            torch.testing.assert_close(new, 0.75 * old + 0.25 * leader)
            assert not torch.equal(new, old)


def test_the_teacher_is_no_part_of_what_is_saved_as_the_network() -> None:
    unet = plain()
    names = set(unet.state_dict())
    _, network = network_for(unet)
    assert set(network.state_dict()) == names
    saved = network.head.state_dict()
    assert {name.split(".")[0] for name in saved} >= {"projector", "teacher_projector", "teacher_encoder"}
    _, other = network_for(plain())
    other.load_state_dict(network.state_dict())
    other.head.load_state_dict(saved)
    crops = torch.randn(1, 5, 1, 8, 8, 8)
    assert torch.equal(network(crops), other(crops))


def test_crops_are_normalised_together_in_validation_too() -> None:
    torch.manual_seed(0)
    _, network = network_for(plain())
    crops = torch.randn(2, 5, 1, 8, 8, 8)
    assert torch.equal(network.train()(crops), network.eval()(crops))
    assert not torch.allclose(network(crops)[:1], network(crops[:1]), atol=1e-3)
    assert not list(projector(3, 4).buffers())


def test_embeddings_of_an_untrained_network_are_apart() -> None:
    """Those of a projector that normalises each crop by itself have a mean cosine of 0.97 (specification, A.6)."""
    torch.manual_seed(0)
    features = 3 + torch.randn(64, 20)
    normalised = torch.nn.functional.normalize(projector(20, 64)(features), dim=-1)
    cosines = (normalised @ normalised.T)[~torch.eye(64, dtype=torch.bool)]
    assert float(cosines.mean().detach()) < 0.6


def test_a_context_block_takes_part_and_has_a_teacher_too() -> None:
    torch.manual_seed(0)
    unet: Any = plain()
    unet.context = nn.Conv3d(8, 8, 1)
    pretext, network = network_for(unet)
    crops = torch.randn(1, 5, 1, 8, 8, 8)
    before = network(crops)
    with torch.no_grad():
        unet.context.weight.mul_(-2)
    student, teacher = network(crops).unbind(1)
    assert not torch.allclose(student, before[:, 0])
    assert torch.equal(teacher, before[:, 1])
    pretext.before_step(network)
    assert not torch.allclose(network(crops)[:, 1], teacher)


def test_a_head_fits_only_networks_with_an_encoder() -> None:
    with pytest.raises(Exception, match=r"Linear has no encoder and no decoder"):
        OnEncoder(nn.Linear(2, 2), nn.Identity())
    with pytest.raises(Exception, match=r"Linear has no encoder and no decoder"):
        network_for(nn.Linear(2, 2))
    assert isinstance(network_for(plain())[1].head, PositionHead)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_compiled_in_one_graph_it_gives_the_same_embeddings(variant: str) -> None:
    torch.manual_seed(0)
    pretext, network = network_for(plain(), variant=variant)
    compiled: Any = torch.compile(network, backend="eager", fullgraph=True)
    crops = torch.randn(2, 5, 1, 8, 8, 8)
    for _ in range(2):
        torch.testing.assert_close(compiled(crops), network(crops))
        with torch.no_grad():
            network.head.projector[0].weight.mul_(1.5)
        pretext.before_step(network)
