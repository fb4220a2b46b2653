"""Masked reconstruction: masks, samples, loss and scores against literal accounts of them."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretexts import given_for
from torch import nn

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.mae.masked_images import MaskBlocksTransform
from nnunet_volf.pretext.mae.masking import block_counts, draw_masking, hidden_count, paint_mask
from nnunet_volf.pretext.mae.panel import MaskedCase, draw_panel
from nnunet_volf.pretext.mae.pretext import MaskedReconstruction
from nnunet_volf.pretext.mae.reconstruction import MaskedSquaredError, measure_errors, score_errors
from nnunet_volf.pretext.mae.settings import MAESettings

PATCHES = st.lists(st.integers(8, 24), min_size=2, max_size=3)


def settings(**values: Any) -> MAESettings:
    return MAESettings.from_mapping(values)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ----------------------------------------------------------------------------------------------- masks


def literal_mask(blocks: tuple[int, ...], hidden: tuple[int, ...], patch: tuple[int, ...]) -> np.ndarray:
    """Ask each voxel which block it lies in, and whether that one is hidden."""
    mask = np.zeros(patch, dtype=bool)
    for voxel in np.ndindex(*patch):
        number = 0
        for at, side, count in zip(voxel, patch, blocks, strict=True):
            inside = [block for block in range(count) if round(block * side / count) <= at]
            number = number * count + inside[-1]
        mask[voxel] = number in hidden
    return mask


@hypothesis.settings(deadline=None)
@given(PATCHES, st.integers(0, 9), st.floats(0.1, 0.9), st.floats(0.05, 0.5))
def test_a_painted_mask_is_what_each_voxel_says_of_itself(
    patch: list[int], seed: int, masked: float, fraction: float
) -> None:
    drawn = draw_masking(rng(seed), patch, settings(masked=masked, block_fraction=fraction))
    np.testing.assert_array_equal(paint_mask(drawn, patch), literal_mask(drawn.blocks, drawn.hidden, tuple(patch)))


@given(PATCHES, st.floats(0.05, 0.95))
def test_the_share_of_hidden_blocks_is_exact_and_never_all_or_none(patch: list[int], masked: float) -> None:
    chosen = settings(masked=masked)
    drawn = draw_masking(rng(), patch, chosen)
    total = math.prod(drawn.blocks)
    assert len(set(drawn.hidden)) == len(drawn.hidden) == hidden_count(drawn.blocks, chosen)
    assert 0 < len(drawn.hidden) < total
    assert abs(len(drawn.hidden) - masked * total) <= max(1, 0.5)


def test_by_default_blocks_are_16_of_160_voxels_and_three_quarters_are_hidden() -> None:
    assert block_counts((160, 160, 160), settings()) == (10, 10, 10)
    assert hidden_count((10, 10, 10), settings()) == 750


@pytest.mark.parametrize(
    ("patch", "values", "counts"),
    [
        ((128, 128, 128), {}, (10, 10, 10)),
        ((20, 320, 256), {}, (10, 10, 10)),
        ((32, 32, 32), {}, (8, 8, 8)),  # of 4 voxels: smaller ones would be filled in from their neighbours
        ((8, 32, 32), {}, (8, 8, 8)),  # the smallest side is in proportion along the shorter axes
        ((3, 64, 64), {}, (3, 10, 10)),  # not more blocks than voxels
        ((128, 128, 128), {"block_voxels": [16, 16, 16]}, (8, 8, 8)),
        ((40, 64), {"block_voxels": [4, 10, 16]}, (4, 4)),  # a 2D configuration takes the last two
        ((64, 64), {"block_fraction": 0.25}, (4, 4)),
    ],
)
def test_blocks_are_scaled_to_the_patch(
    patch: tuple[int, ...], values: dict[str, Any], counts: tuple[int, ...]
) -> None:
    assert block_counts(patch, settings(**values)) == counts


def test_every_block_is_hidden_equally_often() -> None:
    chosen = settings(block_voxels=[8, 8], masked=0.75)
    hidden = np.zeros(4)
    for seed in range(400):
        hidden[list(draw_masking(rng(seed), (16, 16), chosen).hidden)] += 1
    assert hidden.sum() == 1200
    assert np.all(abs(hidden - 300) < 4 * math.sqrt(400 * 0.75 * 0.25))


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"block_voxels": [64, 64, 64]}, r"patch \(16, 16, 16\) holds a single block of this size"),
        ({"block_voxels": [8, 8]}, r"block_voxels has 2 numbers and the patch \(16, 16, 16\) has 3 axes"),
        ({"block_voxels": [8, 0, 8]}, r"block_voxels is \(8, 0, 8\); it must hold one whole number, 1 or more"),
        ({"block_voxels": 8}, "block_voxels is 8; it must hold one whole number"),
        ({"masked": 1.0}, "masked is 1.0; it must be a number between 0.05 and 0.95"),
        ({"coefficients": 3}, "There is no setting 'coefficients'"),
    ],
)
def test_masks_that_cannot_work_are_refused(values: dict[str, Any], refusal: str) -> None:
    with pytest.raises(SettingsError, match=refusal):
        MaskedReconstruction(settings(**values), given_for())


# --------------------------------------------------------------------------------------------- samples


def test_hidden_voxels_are_zero_in_all_channels_and_the_target_is_the_image_and_the_mask() -> None:
    image = torch.randn(2, 12, 16, 16)
    chosen = settings(block_voxels=[4, 4, 4])
    sample = MaskBlocksTransform((12, 16, 16), chosen)(image=image, rng=rng(3))
    hidden = torch.from_numpy(paint_mask(draw_masking(rng(3), (12, 16, 16), chosen), (12, 16, 16)))
    assert torch.equal(sample["segmentation"], torch.cat([image, hidden[None].float()]))
    assert torch.equal(sample["image"][:, ~hidden], image[:, ~hidden])
    assert not sample["image"][:, hidden].any()


@pytest.fixture
def cases(tmp_path: Path) -> UnlabeledCases:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng(ord(name)).normal(size=(1, 24, 20, 28)).astype(np.float32))
    return UnlabeledCases(tmp_path, ["a", "b"])


def test_samples_for_validation_show_the_image_as_it_is(cases: UnlabeledCases) -> None:
    sampler = MaskedReconstruction(settings(), given_for((16, 16, 16))).sampler()
    [sample] = sampler.draw(rng(1), cases, "a")
    stored = np.load(cases.folder / "a.npy")[0]
    crop = sample["target"][0].numpy()
    starts = np.argwhere(stored == crop[0, 0, 0])
    assert any(np.array_equal(stored[z : z + 16, y : y + 16, x : x + 16], crop) for z, y, x in starts)
    assert sample["keys"] == ("a",)


def test_samples_for_training_are_flipped_and_resized_but_keep_their_intensities(cases: UnlabeledCases) -> None:
    pretext = MaskedReconstruction(settings(flip=1.0, scale=[1.0, 1.0]), given_for((16, 16, 16)))
    stored = np.load(cases.folder / "a.npy")[0]
    [sample] = pretext.sampler(training=True).draw(rng(1), cases, "a")
    crop = sample["target"][0].flip([0, 1, 2]).numpy()
    [start] = np.argwhere(stored == crop[0, 0, 0])
    z, y, x = start
    np.testing.assert_array_equal(stored[z : z + 16, y : y + 16, x : x + 16], crop)


def test_a_sampler_travels_to_a_worker(cases: UnlabeledCases) -> None:
    sampler = MaskedReconstruction(settings(), given_for((16, 16, 16))).sampler(training=True)
    again = pickle.loads(pickle.dumps(sampler))
    assert torch.equal(again.draw(rng(5), cases, "b")[0]["image"], sampler.draw(rng(5), cases, "b")[0]["image"])


def test_a_2d_patch_is_masked_like_a_3d_one(cases: UnlabeledCases) -> None:
    [sample] = MaskedReconstruction(settings(), given_for((16, 16))).sampler().draw(rng(1), cases, "a")
    assert tuple(sample["image"].shape) == (1, 16, 16)
    assert tuple(sample["target"].shape) == (2, 16, 16)


# ------------------------------------------------------------------------------------- loss and scores


def literal_errors(output: torch.Tensor, target: torch.Tensor) -> tuple[float, list[float], list[float]]:
    """Return the loss, and a channel its error and that of the mean of each sample's visible voxels."""
    batch, channels = output.shape[:2]
    errors: list[list[float]] = [[] for _ in range(channels)]
    by_mean: list[list[float]] = [[] for _ in range(channels)]
    for b in range(batch):
        for c in range(channels):
            visible = [
                float(value)
                for value, hidden in zip(target[b, c].ravel(), target[b, -1].ravel(), strict=True)
                if not hidden
            ]
            mean = sum(visible) / len(visible)
            for made, value, hidden in zip(
                output[b, c].ravel(), target[b, c].ravel(), target[b, -1].ravel(), strict=True
            ):
                if hidden:
                    errors[c].append((float(made) - float(value)) ** 2)
                    by_mean[c].append((mean - float(value)) ** 2)
    flat = [error for channel in errors for error in channel]
    average = [sum(channel) / len(channel) for channel in errors]
    return sum(flat) / len(flat), average, [sum(channel) / len(channel) for channel in by_mean]


def batch_of(seed: int, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(3, channels, 4, 5, 6, generator=generator)
    image = torch.randn(3, channels, 4, 5, 6, generator=generator)
    hidden = (torch.rand(3, 1, 4, 5, 6, generator=generator) < 0.7).float()
    return output, torch.cat([image, hidden], dim=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_the_mean_squared_error_over_what_is_hidden(channels: int) -> None:
    output, target = batch_of(1, channels)
    assert float(MaskedSquaredError()(output, target)) == pytest.approx(literal_errors(output, target)[0], rel=1e-5)


def test_what_is_visible_teaches_nothing() -> None:
    output, target = batch_of(2)
    output.requires_grad_()
    MaskedSquaredError()(output, target).backward()
    assert output.grad is not None
    hidden = target[:, -1:].expand_as(output) > 0
    assert not output.grad[~hidden].any()
    assert output.grad[hidden].all()


def test_scores_over_batches_are_those_of_all_their_voxels() -> None:
    batches = [batch_of(3), batch_of(4)]
    scores = score_errors([measure_errors(*batch) for batch in batches])
    output, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
    _, errors, by_mean = literal_errors(output, target)
    assert scores.error == pytest.approx(errors, rel=1e-6)
    assert scores.by_mean == pytest.approx(by_mean, rel=1e-6)
    assert scores.headline == pytest.approx(np.mean([1 - e / m for e, m in zip(errors, by_mean, strict=True)]))


def test_a_perfect_reconstruction_explains_everything_and_the_visible_mean_nothing() -> None:
    _, target = batch_of(5)
    image, visible = target[:, :-1], 1 - target[:, -1:]
    mean = (image * visible).sum((2, 3, 4), keepdim=True) / visible.sum((2, 3, 4), keepdim=True)
    perfect, average = (score_errors([measure_errors(made, target)]) for made in (image, mean.expand_as(image)))
    assert perfect.headline == 1
    assert average.headline == pytest.approx(0, abs=1e-6)
    assert "nearly solved" in perfect.describe()
    assert "Not yet better than the mean" in average.describe()


def test_a_channel_without_contrast_is_no_division_by_zero() -> None:
    target = torch.zeros(1, 3, 4, 4, 4)
    target[:, 1] = torch.randn(4, 4, 4)
    target[:, 2, :2] = 1
    scores = score_errors([measure_errors(target[:, :2] * 0.5, target)])
    assert scores.parts[0] == 0
    assert np.isfinite(scores.headline)
    assert scores.to_mapping()["explained_per_channel"] == list(scores.parts)


def test_half_precision_outputs_are_compared_in_full_precision() -> None:
    output, target = batch_of(6)
    large = (output * 300).half()
    assert torch.isfinite(MaskedSquaredError()(large, target))
    assert float(MaskedSquaredError()(large, target)) == pytest.approx(
        float(MaskedSquaredError()(large.float(), target))
    )


# ------------------------------------------------------------------------------------ network and panel


def test_only_the_finest_head_is_trained() -> None:
    unet = nn.Module()
    unet.decoder = nn.Module()
    unet.decoder.seg_layers = nn.ModuleList([nn.Conv3d(4, 1, 1) for _ in range(3)])
    MaskedReconstruction(settings(), given_for()).network(unet)
    assert [layer.weight.requires_grad for layer in unet.decoder.seg_layers] == [False, False, True]


def test_there_is_an_output_for_each_channel() -> None:
    assert len(MaskedReconstruction(settings(), given_for(channels=("T1", "T2", "FLAIR"))).labels()) == 3
    assert list(MaskedReconstruction(settings(), given_for()).labels()) == ["background"]


def test_the_panel_shows_the_network_only_where_the_image_was_hidden(cases: UnlabeledCases) -> None:
    [sample] = MaskedReconstruction(settings(), given_for((16, 16, 16))).sampler().draw(rng(1), cases, "a")
    case = MaskedCase.from_sample(sample, np.full((1, 16, 16, 16), 7, dtype=np.float32))
    assert case.filled is not None
    assert (case.filled[0][case.hidden] == 7).all()
    np.testing.assert_array_equal(case.filled[0][~case.hidden], case.image[0][~case.hidden])


@pytest.mark.parametrize("shape", [(1, 8, 10, 12), (3, 8, 10, 12), (2, 10, 12)])
@pytest.mark.parametrize("predicted", [True, False])
def test_a_panel_is_drawn_for_any_number_of_channels_and_axes(
    shape: tuple[int, ...], predicted: bool, tmp_path: Path
) -> None:
    image = rng(0).normal(size=shape).astype(np.float32)
    hidden = np.arange(math.prod(shape[1:])).reshape(shape[1:]) % 3 > 0
    case = MaskedCase("one", image, np.where(hidden, 0, image), hidden, image * 0.5 if predicted else None)
    path = tmp_path / "new" / "panel.png"
    draw_panel([case, case], [f"channel {n}" for n in range(shape[0])], "title", path)
    assert path.stat().st_size > 5000


def test_what_is_hidden_is_said_before_anything_is_trained() -> None:
    pretext = MaskedReconstruction(settings(), given_for((40, 56, 40)))
    assert pretext.preview(0) == ["patch (40, 56, 40): 750 of 1000 blocks are hidden, of 4 x 5.6 x 4 voxels each"]
    assert "A healthy run: " in pretext.expectation()
