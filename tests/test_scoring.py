"""Scores of fusions against literal counting, and what they say in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_volf.pretext.volf.scoring import confusion_matrix, score


def literal_confusion(predicted: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    counts = np.zeros((classes, classes), dtype=int)
    for p, t in zip(predicted.ravel(), target.ravel(), strict=True):
        counts[t, p] += 1
    return counts


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 5, (2, 6, 7, 5)), rng.integers(0, 5, (2, 1, 6, 7, 5)).astype(np.uint8)


def test_the_confusion_matrix_counts_true_rows_and_predicted_columns(maps: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, target = maps
    found = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(target), 5)
    assert (found.numpy() == literal_confusion(predicted, target, 5)).all()


def test_scores_equal_their_definitions(maps: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, target = maps[0].ravel(), maps[1].ravel().astype(int)
    scores = score(literal_confusion(predicted, target, 5))
    for k in range(5):
        both = ((predicted == k) & (target == k)).sum()
        assert scores.dice[k] == pytest.approx(2 * both / ((predicted == k).sum() + (target == k).sum()))
    assert scores.mean_fused_dice == pytest.approx(np.mean(scores.dice[1:]))
    assert scores.ordinal_error == pytest.approx(np.abs(predicted - target).mean() / 4)
    for k in (0, 1, 3, 4):
        assert scores.swapped[k] == pytest.approx((predicted[target == k] == 4 - k).mean())
    assert np.isnan(scores.swapped[2]), "the middle class is its own mirror image"


def test_random_guessing_scores_chance() -> None:
    rng = np.random.default_rng(1)
    target = rng.choice(5, size=200_000, p=[0.3, 0.175, 0.175, 0.175, 0.175])
    scores = score(literal_confusion(rng.integers(0, 5, target.size), target, 5))
    assert scores.mean_fused_dice == pytest.approx(scores.chance, abs=0.005)


def test_a_class_that_occurs_nowhere_is_left_out_of_the_mean() -> None:
    scores = score(np.array([[5, 0, 0], [0, 5, 0], [0, 0, 0]]))
    assert np.isnan(scores.dice[2])
    assert scores.mean_fused_dice == 1.0


def test_an_empty_matrix_gives_no_number_and_no_warning() -> None:
    assert np.isnan(score(np.zeros((3, 3), dtype=int)).mean_fused_dice)


@pytest.mark.parametrize(
    ("confusion", "words"),
    [
        (np.diag([60, 35, 35, 35, 35]), "The task is nearly solved"),
        (np.full((5, 5), 7), "Not yet above chance (0.20)"),
        (np.fliplr(np.diag([0, 0, 0, 0, 9])) * 2 + np.diag([9, 9, 9, 9, 9]), "Pure foreground is mostly called"),
        (np.diag([9, 9, 9, 9, 9]) + 2, "Learning."),
    ],
)  # fmt: skip
def test_the_description_names_the_state_of_the_training(confusion: np.ndarray, words: str) -> None:
    text = score(confusion).describe()
    assert words in text
    assert "k taken for K-k" in text
    assert "0/4:" in text
