"""VoCo's scores against their definitions, what they say in words, and its pictures and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image as pictures
from pretexts import given_for
from torch import Tensor

from nnunet_volf.pretext.voco.geometry import Region, draw_starts, overlaps
from nnunet_volf.pretext.voco.labels import position_labels
from nnunet_volf.pretext.voco.loss import Terms
from nnunet_volf.pretext.voco.panel import layers
from nnunet_volf.pretext.voco.pretext import VolumeContrast
from nnunet_volf.pretext.voco.scoring import PositionScores, correlation, measure, score
from nnunet_volf.pretext.voco.settings import VoCoSettings

REGION = Region((1, 3, 3), (12, 12, 12))
NO_TERMS = Terms(*(torch.tensor(value) for value in (0.1, 0.2, 0.3, 0.0)))


def labels_for(volumes: int, targets: int, seed: int = 0, region: Region = REGION) -> Tensor:
    rng = np.random.default_rng(seed)
    bases, seen = torch.ones(len(region.bases), dtype=torch.bool), torch.ones(targets, dtype=torch.bool)
    return torch.stack(
        [position_labels(overlaps(region, draw_starts(rng, region, targets)), bases, seen) for _ in range(volumes)]
    )


def scores_of(predicted: Tensor, labels: Tensor) -> PositionScores:
    return score([measure(predicted[:2], labels[:2], NO_TERMS), measure(predicted[2:], labels[2:], NO_TERMS)])


def test_who_predicts_all_overlaps_has_all_scores() -> None:
    labels = labels_for(40, 4)
    scores = scores_of(labels[:, :-1], labels)
    assert scores.headline == scores.position == pytest.approx(1)
    assert scores.correlation == pytest.approx(1)
    assert scores.accuracy == 1
    assert scores.parts == (scores.position, 1.0)
    assert (scores.positive, scores.negative, scores.regularisation) == pytest.approx((0.1, 0.2, 0.3))


def test_who_guesses_has_none() -> None:
    labels = labels_for(400, 4)
    scores = scores_of(torch.rand(400, 4, 9, generator=torch.Generator().manual_seed(0)), labels)
    assert scores.position == pytest.approx(0, abs=0.03)
    assert scores.correlation == pytest.approx(0, abs=0.03)
    assert scores.accuracy == pytest.approx(1 / 9, abs=0.03)


def test_who_knows_bases_and_nothing_of_targets_has_no_position_correlation() -> None:
    """A base in the middle overlaps with more targets; saying so of every target is worth a correlation of 0.25."""
    labels = labels_for(400, 4)
    by_base = labels[:, :-1].mean((0, 1)).expand(400, 4, 9)
    scores = scores_of(by_base, labels)
    assert scores.position == 0
    assert scores.correlation == pytest.approx(0.25, abs=0.03)
    assert scores.accuracy == pytest.approx(scores.chance)
    assert scores.chance == pytest.approx(0.25, abs=0.03)


def test_scores_are_those_of_their_definitions() -> None:
    labels = labels_for(6, 5)
    labels[0, 1, :] = 0  # a target that does not count
    labels[3, -1, 4] = 0  # nor does this base, which its targets do not lie in
    labels[3, :-1, 4] = 0
    predicted = torch.rand(6, 5, 9, generator=torch.Generator().manual_seed(1))
    scores = scores_of(predicted, labels)

    rows = [(v, t) for v in range(6) for t in range(5) if labels[v, t].sum() > 0]
    triples = [(v, t, b) for v, t in rows for b in range(9) if labels[v, -1, b] == 1]
    y = np.array([float(labels[at]) for at in triples])
    said = np.array([float(predicted[at]) for at in triples])
    assert scores.correlation == pytest.approx(np.corrcoef(y, said)[0, 1])
    assert scores.alike == pytest.approx(said.mean())
    assert scores.pairs == len(triples)
    column = np.array([b for *_, b in triples])
    means = [np.array([values[column == b].mean() for b in range(9)])[column] for values in (y, said)]
    assert scores.position == pytest.approx(np.corrcoef(y - means[0], said - means[1])[0, 1])
    among = {(v, t): [b for b in range(9) if labels[v, -1, b] == 1] for v, t in rows}
    nearest = [max(among[at], key=lambda b, at=at: float(labels[(*at, b)])) for at in rows]
    named = [max(among[at], key=lambda b, at=at: float(predicted[(*at, b)])) for at in rows]
    assert scores.accuracy == pytest.approx(np.mean([a == b for a, b in zip(nearest, named, strict=True)]))
    assert scores.chance == pytest.approx(max(nearest.count(b) for b in range(9)) / len(rows))


def test_a_correlation_with_what_is_the_same_throughout_is_none() -> None:
    assert correlation(np.full(50, 0.1), np.arange(50.0)) == 0
    assert correlation(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1)


def test_where_nothing_counts_there_is_no_score_and_no_warning() -> None:
    scores = score([measure(torch.rand(1, 4, 9), torch.zeros(1, 5, 9), NO_TERMS)])
    assert scores.headline == 0
    assert scores.to_mapping()["nearest_base_accuracy"] == 0


def scores_with(**values: float) -> PositionScores:
    known = {"position": 0.5, "correlation": 0.5, "accuracy": 0.5, "chance": 0.25, "alike": 0.2, "pairs": 600}
    return PositionScores(
        **{**known, "positive": 0.1, "negative": 0.1, "regularisation": 0.1, "between": 0.0, **values}
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alike": 0.99, "position": 0.02}, "Collapsed: all crops look alike to the network (mean cosine 0.99)"),
        ({"position": 0.05, "pairs": 10_000}, "No position information"),
        ({"position": 0.25, "pairs": 100}, "No position information"),
        ({"position": 0.4}, "Position is told in part"),
        ({"position": 0.7}, "Learning."),
        ({"position": 0.97}, "The task is nearly solved"),
        ({"between": 0.25}, "between volumes 0.250"),
    ],
)
def test_the_description_names_the_state_of_the_training(values: dict[str, float], words: str) -> None:
    text = scores_with(**values).describe()
    assert words in text
    assert "nearest base found for 50% of targets (chance 25%)" in text


# ------------------------------------------------------------------------------------ pictures and texts


def pretext_for(patch: tuple[int, ...] = (16, 16, 16), **settings: Any) -> VolumeContrast:
    return VolumeContrast(VoCoSettings.from_mapping({"width": 8, **settings}), given_for(patch))


def sample_of(pretext: VolumeContrast, seed: int = 0) -> dict[str, Any]:
    region = pretext.region
    rng = np.random.default_rng(seed)
    volume = torch.from_numpy(rng.normal(size=(2, *region.size)).astype(np.float32))
    starts = draw_starts(rng, region, pretext.settings.targets)
    crops = torch.stack([region.cut(volume, start) for start in (*region.bases, *starts)])
    bases, targets = torch.ones(len(region.bases), dtype=torch.bool), torch.ones(len(starts), dtype=torch.bool)
    bases[0], targets[-1] = False, False
    labels = position_labels(overlaps(region, starts), bases, targets)
    return {"image": crops, "target": labels, "keys": ("case_1",), "region": volume, "starts": starts}


@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 16)])
@pytest.mark.parametrize("settings", [{}, {"targets": 1}, {"targets": 9, "variant": "v0"}])
def test_a_picture_is_drawn_with_and_without_predictions(
    tmp_path: Path, patch: tuple[int, ...], settings: dict[str, Any]
) -> None:
    pretext = pretext_for(patch, **settings)
    samples = [sample_of(pretext, seed) for seed in range(2)]
    outputs = [torch.randn(1, 2, len(sample["image"]), 8) for sample in samples]
    pretext.draw(samples, outputs, "with predictions", tmp_path / "new" / "with.png")
    pretext.draw(samples, None, "without", tmp_path / "without.png")
    taller, lower = (pictures.imread(tmp_path / name) for name in ("new/with.png", "without.png"))
    assert taller.shape[0] > lower.shape[0] > 100


def test_layers_of_a_map_lie_beside_each_other() -> None:
    region = Region((2, 3, 2), (4, 4, 4))
    values = np.arange(12, dtype=np.float32)
    found = layers(values, region)
    expected = np.array([[0, 1, np.nan, 6, 7], [2, 3, np.nan, 8, 9], [4, 5, np.nan, 10, 11]])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(layers(values[:6], Region((2, 3), (4, 4))), values[:6].reshape(2, 3))


def test_preview_and_log_say_what_is_asked_and_what_to_expect() -> None:
    pretext = pretext_for(grid=[1, 4, 4], crop=[16, 16, 16])
    lines = pretext.preview(0)
    assert lines[0].startswith("Each region of 16 x 64 x 64 voxels holds 1 x 4 x 4 = 16 base crops of 16 x 16 x 16")
    assert "57%" in lines[1]
    assert "The median image, 32 x 32 x 32 voxels, is smaller than the region" in lines[2]
    assert "has room for the region" in pretext_for().preview(0)[2]
    text = pretext.expectation()
    assert "Only the encoder is trained" in text
    assert "falls below 0.38" in text
    assert "2.96 is a collapse" in text


def test_labels_of_the_dataset_have_no_part() -> None:
    assert pretext_for().labels() == {"background": 0}
