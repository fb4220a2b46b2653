"""SLeM as a pretext: what it refuses, what stands on the encoder, and that it learns."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slem_reference import known_cross_entropy, unmix_cyclic
from slem_setup import PATCH, save_case, slem, tiny_unet
from torch import nn

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.dataloading import collate
from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.on_encoder import OnEncoder
from nnunet_volf.pretext.slem.heads import CodedClasses
from nnunet_volf.pretext.slem.loss import UNKNOWN, KnownCrossEntropy
from nnunet_volf.pretext.slem.pretext import Recombination
from nnunet_volf.pretext.slem.settings import SLeMSettings
from nnunet_volf.randomness import sample_rng

# ------------------------------------------------------------------------------------------------------------ refusals


def test_one_channel_is_refused_by_a_message_that_names_what_works_with_one() -> None:
    with pytest.raises(SettingsError) as refused:
        slem(channels=1)
    message = str(refused.value)
    assert "SLeM needs at least 2 co-registered input channels; Dataset001_Test has 1 (dataset.json" in message
    for trainer in ("nnUNetTrainerVolF", "nnUNetTrainerVoCo", "nnUNetTrainerMAE"):
        assert trainer in message


def test_more_than_eight_channels_are_refused_unless_each_block_is_asked_for() -> None:
    with pytest.raises(SettingsError, match=r"has 9 channels, and one class .* for 8 at most. Set head=blocks"):
        slem(channels=9)
    assert slem(channels=9, head="blocks").classes == 9
    assert slem(channels=8).classes == 256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": [2, 2]}, r"grid is \[2, 2\] and the patch of this configuration \[8, 16, 20\]. Give one .* 3 axes"),
        ({"grid": [2, 2, 2]}, r"2 x 2 x 2 makes blocks of 4 x 8 x 10 voxels .* needs 8 x 8 x 8.*Set grid to \[1, 2, 2"),
        ({"grid": [1, 2, 3]}, r"makes blocks of 8 x 8 x 6 voxels in a patch of 8 x 16 x 20"),
        ({"grid": [1, 1, 1]}, r"grid is \[1, 1, 1\], one block. With one there is nothing to combine"),
        ({"grid": [1, 2, 0]}, r"grid is \[1, 2, 0\]; it must hold one whole number of blocks for each axis"),
        ({"grid": 4}, r"grid is 4; it must hold"),
        ({"mode": "round"}, "mode is 'round'. Known: cyclic, mosaic, permutation"),
        ({"mode": "permutation", "assignment": "permutation"}, "Choose one of the two"),
        ({"assignment": "permutation"}, "there are 2 channels and 4 blocks. Set grid so that there are 2"),
        ({"most_classes": 1}, "most_classes is 1; it must be a whole number, between 2 and 1024"),
        ({"dropout": 1.5}, "dropout is 1.5; it must be a number between 0 and 0.95"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_what_to_do(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        slem(**settings)


def test_a_patch_that_cannot_be_divided_is_refused_with_other_advice() -> None:
    with pytest.raises(SettingsError, match="too small to be divided at all: take plans with a larger patch_size"):
        slem(patch=(8, 12, 12))


def test_an_axis_that_is_not_divided_may_be_thin() -> None:
    assert slem(patch=(4, 16, 16)).grid == (1, 2, 2)


def test_blocks_of_different_sizes_cannot_change_places() -> None:
    with pytest.raises(SettingsError, match=r"does not divide a patch of 8 x 17 x 20 evenly. Choose another grid, or"):
        slem(patch=(8, 17, 20), shuffle_positions=True)
    assert slem(patch=(8, 17, 20)).classes == 16


def test_too_many_answers_a_block_are_refused() -> None:
    with pytest.raises(SettingsError, match="may show 5040 different things, and head=blocks is for 1024 at most"):
        slem(channels=7, mode="permutation", head="blocks")


@pytest.mark.parametrize(
    ("channels", "settings", "classes"),
    [
        (2, {}, 16),
        (3, {}, 81),
        (4, {}, 256),
        (5, {}, 256),
        (4, {"most_classes": 100}, 100),
        (4, {"assignment": "permutation"}, 24),
        (2, {"grid": [1, 1, 2]}, 4),
        (2, {"grid": [1, 1, 2], "shuffle_positions": True}, 8),
        (3, {"mode": "permutation", "grid": [1, 1, 2]}, 36),
        (4, {"head": "blocks"}, 4),
        (4, {"head": "blocks", "shuffle_positions": True}, 16),
    ],
)
def test_the_number_of_classes_follows_from_channels_and_settings(
    channels: int, settings: dict[str, Any], classes: int
) -> None:
    assert slem(channels=channels, **settings).classes == classes


# ---------------------------------------------------------------------------------------------------- network and loss


@pytest.mark.parametrize(
    ("axes", "patch", "settings", "shape"),
    [
        (3, PATCH, {}, (1, 16)),
        (3, PATCH, {"head": "blocks"}, (4, 2)),
        (3, (8, 17, 20), {}, (1, 16)),
        (2, (16, 20), {}, (1, 16)),
        (2, (16, 20), {"head": "blocks"}, (4, 2)),
        (2, (16, 24), {"head": "blocks", "grid": [1, 3], "shuffle_positions": True}, (3, 6)),
    ],
)
def test_the_head_gives_one_row_of_logits_an_answer(
    axes: int, patch: tuple[int, ...], settings: dict[str, Any], shape: tuple[int, int]
) -> None:
    network = slem(patch=patch, **settings).network(tiny_unet(axes=axes))
    assert isinstance(network, OnEncoder)
    assert network(torch.randn(3, 2, *patch)).shape == (3, *shape)


def test_the_block_head_sees_each_block_by_itself() -> None:
    """Features that mark one block change the answer for that block and for no other."""
    head = slem(head="blocks").network(tiny_unet()).head
    features = torch.zeros(1, 8, 2, 4, 6)
    marked = features.clone()
    marked[:, :, :, 2:, :3] = 1  # row 1, column 0 of the grid
    answers, others = (head(lambda _, f=f: [f], torch.empty(0))[0] for f in (marked, features))
    assert [not torch.equal(a, b) for a, b in zip(answers, others, strict=True)] == [False, False, True, False]


def test_the_combination_head_knows_which_block_is_which() -> None:
    network = slem(dropout=0.0).network(tiny_unet())
    features = torch.zeros(1, 8, 2, 4, 6)
    answers = []
    for corner in itertools.product((0, 2), (0, 3)):
        marked = features.clone()
        marked[:, :, :, corner[0] : corner[0] + 2, corner[1] : corner[1] + 3] = 1
        answers.append(network.head(lambda _, m=marked: [m], torch.empty(0)))
    assert not any(torch.allclose(a, b) for a, b in itertools.combinations(answers, 2))


def test_the_logit_of_a_class_is_its_own_and_what_its_blocks_add() -> None:
    table = [(0, 0, 0), (2, 1, 0), (2, 1, 1), (1, 2, 2)]
    layer = CodedClasses(5, table)
    features = torch.randn(4, 5)
    own, shared = layer.own(features), layer.shared(features)
    found = layer(features)
    for sample, (number, code) in itertools.product(range(4), enumerate(table)):
        expected = own[sample, number] + sum(shared[sample, 3 * block + symbol] for block, symbol in enumerate(code))
        assert found[sample, number].item() == pytest.approx(expected.item(), abs=1e-5)


def test_what_is_learnt_from_one_class_reaches_those_that_agree_on_a_block() -> None:
    table = [(0, 0), (0, 1), (1, 1)]
    layer, features = CodedClasses(6, table), torch.randn(1, 6)
    before = layer(features)
    layer(features)[0, 0].backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += parameter.grad
        risen = (layer(features) - before)[0].tolist()
    assert risen[0] > risen[1] > 0
    assert risen[2] == pytest.approx(0, abs=1e-5)


def test_the_class_table_is_not_a_weight() -> None:
    assert set(slem().network(tiny_unet()).head.layers[-1].state_dict()) == {
        "own.weight", "own.bias", "shared.weight", "shared.bias",
    }  # fmt: skip


def test_what_the_unet_holds_is_what_is_saved_and_the_decoder_learns_nothing() -> None:
    unet = tiny_unet()
    names = set(unet.state_dict())
    network = slem().network(unet)
    assert set(network.state_dict()) == names
    loss = KnownCrossEntropy()(network(torch.randn(2, 2, *PATCH)), torch.tensor([[3], [UNKNOWN]]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.encoder.parameters())
    others = set(network.decoder.parameters()) - set(network.encoder.parameters())
    assert others
    assert all(parameter.grad is None for parameter in others)


class WithContext(nn.Module):
    """A U-Net with a module on its deepest features, as plans with a context block have it."""

    def __init__(self) -> None:
        super().__init__()
        unet = tiny_unet()
        self.encoder, self.decoder = unet.encoder, unet.decoder
        self.context = nn.Conv3d(8, 8, 1)


def test_a_context_block_is_trained_and_saved_with_the_encoder() -> None:
    network = slem().network(WithContext())
    assert {"context.weight", "context.bias"} <= set(network.state_dict())
    output = network(torch.randn(2, 2, *PATCH))
    KnownCrossEntropy()(output, torch.tensor([[3], [5]])).backward()
    assert isinstance(network.context.weight.grad, torch.Tensor)
    assert network.context.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("answers", [1, 4])
def test_the_loss_is_the_cross_entropy_over_what_is_known(answers: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, answers, 5))
    target = rng.integers(-1, 5, size=(6, answers))
    assert (target == -1).any()
    found = KnownCrossEntropy()(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(found) == pytest.approx(known_cross_entropy(logits, target), rel=1e-5)


def test_a_batch_in_which_nothing_is_known_moves_nothing() -> None:
    logits = torch.randn(3, 1, 5, requires_grad=True)
    loss = KnownCrossEntropy()(logits, torch.full((3, 1), UNKNOWN))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_loss_is_computed_in_single_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = KnownCrossEntropy()(torch.randn(2, 1, 5).bfloat16(), torch.tensor([[1], [2]]))
    assert loss.dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------ learning


def two_kinds_of_texture(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Channel 0 is smooth and channel 1 is rough, of the same anatomy; nothing else tells them apart."""
    noise = torch.from_numpy(rng.normal(size=(1, 1, *size))).float()
    smooth = nn.functional.avg_pool3d(noise, 5, 1, 2)
    channels = torch.cat([smooth / smooth.std(), noise - smooth / 2])[:, 0]
    return channels.numpy()


@pytest.mark.slow
def test_channels_that_differ_in_texture_are_told_apart_within_300_steps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        save_case(tmp_path, two_kinds_of_texture(rng, (12, 24, 26)), f"case_{number}")
    training = UnlabeledCases(tmp_path, [f"case_{number}" for number in range(4)])
    held_out = UnlabeledCases(tmp_path, ["case_4", "case_5"])
    torch.manual_seed(0)
    pretext = slem()
    network, sampler, loss = pretext.network(tiny_unet()), pretext.sampler(training=True), KnownCrossEntropy()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    for step in range(300):
        samples = [sampler.draw(sample_rng(step, i), training, f"case_{(step + i) % 4}")[0] for i in range(4)]
        batch = collate(samples)
        optimizer.zero_grad()
        loss(network(batch["data"]), batch["target"]).backward()
        optimizer.step()

    network.eval()
    measures = []
    for number in range(96):
        (sample,) = pretext.sampler().draw(sample_rng(9, number), held_out, f"case_{4 + number % 2}")
        with torch.no_grad():
            measures.append(pretext.measure(network(sample["image"][None]), sample["target"][None]))
    scores = pretext.score(measures)
    assert scores.answers == 96
    assert scores.accuracy > 3 / 16, scores.describe()


def test_the_validation_series_of_a_sampler_restores_its_original(tmp_path: Path) -> None:
    cases = save_case(tmp_path, np.random.default_rng(0).normal(size=(3, 16, 20, 24)))
    pretext = slem(channels=3, grid=[1, 2, 1])
    (sample,) = pretext.sampler().draw(sample_rng(0, 0), cases, "case")
    undone = unmix_cyclic(sample["image"].numpy(), (1, 2, 1), sample["code"])
    np.testing.assert_array_equal(undone, sample["original"].numpy())


def test_settings_are_read_from_their_own_key_and_refuse_unknown_names() -> None:
    assert SLeMSettings.plans_key == "volf_slem"
    with pytest.raises(SettingsError, match="There is no setting 'blocks'"):
        SLeMSettings.from_mapping({"blocks": 4})


def test_the_names_of_channels_are_those_of_the_dataset() -> None:
    on_it = Given(PATCH, (1.0,) * 3, ("T1", "FLAIR"), (4,) * 3, (4, 8, 8), ((3, 3, 3),) * 3, 2, PATCH, "Dataset001_T")
    assert "T1, FLAIR recombined" in Recombination(SLeMSettings(), on_it).expectation()
