"""How well a network finds the fusion classes, from one matrix of counts, and what that says in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A network that guesses scores `chance`; this much above it something has been learnt.
LEARNING = 1.25
# Above this the pretext task is solved and more steps teach little.
SOLVED = 0.95
# A network that finds the pure blocks but not which volume is the background calls pure foreground background.
SWAPPED = 0.5


@dataclass(frozen=True)
class FusionScores:
    """Scores of one set of fusions; K is the number of coefficients, classes run from 0 to K."""

    dice: tuple[float, ...]  # per class; nan for a class that occurs neither in truth nor in prediction
    ordinal_error: float  # mean of |predicted - true| / K: 0 is perfect
    swapped: tuple[float, ...]  # share of the voxels of class k that were called K - k; nan where that is k itself
    chance: float  # mean Dice of the classes 1 ... K for a network that calls every class equally often, at random
    confusion: tuple[tuple[int, ...], ...] = ()  # voxels by true class (rows) and predicted class (columns)

    @property
    def mean_fused_dice(self) -> float:
        """Mean Dice of the classes 1 ... K, the number nnU-Net calls pseudo Dice."""
        fused = [value for value in self.dice[1:] if not np.isnan(value)]
        return float(np.mean(fused)) if fused else float("nan")

    @property
    def headline(self) -> float:
        """The number that chooses the best checkpoint."""
        return self.mean_fused_dice

    @property
    def parts(self) -> tuple[float, ...]:
        """The Dice of each class but the background."""
        return self.dice[1:]

    def describe(self) -> str:
        """Say in a sentence or two how the pretraining is doing."""
        top = len(self.dice) - 1
        per_class = ", ".join(f"{k}/{top}: {value:.2f}" for k, value in enumerate(self.dice))
        swapped = ", ".join(f"{k} {value:.0%}" for k, value in enumerate(self.swapped) if not np.isnan(value))
        facts = (
            f"Fusion Dice {self.mean_fused_dice:.3f} ({per_class}), ordinal error {self.ordinal_error:.3f}; "
            f"k taken for K-k: {swapped}."
        )
        return f"{facts} {_verdict(self)}"

    def to_mapping(self) -> dict[str, Any]:
        """Return all numbers as plain data."""
        return {
            "mean_fused_dice": self.mean_fused_dice,
            "mean_fused_dice_by_chance": self.chance,
            "dice_per_class": _numbers(self.dice),
            "ordinal_error": self.ordinal_error,
            "k_taken_for_K_minus_k": _numbers(self.swapped),
            "confusion_true_by_predicted": [list(row) for row in self.confusion],
        }


def confusion_matrix(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count voxels by true class (rows) and predicted class (columns)."""
    pairs = target.flatten().long() * classes + predicted.flatten().long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def score(confusion: NDArray[np.int64]) -> FusionScores:
    """Summarise a confusion matrix."""
    counts = confusion.astype(np.float64)
    classes = len(counts)
    index = np.arange(classes)
    mirror = classes - 1 - index
    truth, found = counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        dice = 2 * counts.diagonal() / (truth + found)
        swapped = np.where(index == mirror, np.nan, counts[index, mirror] / truth)

    share = truth / max(counts.sum(), 1)
    guessed = 2 * share / classes / (share + 1 / classes)
    distance = np.abs(index[:, None] - index[None, :]) / (classes - 1)
    return FusionScores(
        dice=tuple(dice.tolist()),
        ordinal_error=float((counts * distance).sum() / max(counts.sum(), 1)),
        swapped=tuple(swapped.tolist()),
        chance=float(guessed[1:].mean()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _verdict(scores: FusionScores) -> str:
    if not scores.mean_fused_dice >= LEARNING * scores.chance:
        return f"Not yet above chance ({scores.chance:.2f}): normal in the first epochs, later a wrong learning rate."
    if scores.swapped[-1] > SWAPPED:
        return "Pure foreground is mostly called background: normal early, later a reason to lower foreground_ratio."
    if scores.mean_fused_dice > SOLVED:
        return "The task is nearly solved: more epochs will teach little, more cases or finer coefficients would."
    return "Learning."


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]
