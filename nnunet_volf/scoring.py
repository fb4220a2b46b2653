"""How well a network finds the fusion classes, from one matrix of counts, and what that says in words."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def mean_fused_dice(self) -> float:
        """Mean Dice of the classes 1 ... K, the number nnU-Net calls pseudo Dice."""
        fused = [value for value in self.dice[1:] if not np.isnan(value)]
        return float(np.mean(fused)) if fused else float("nan")


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
    )


def describe(scores: FusionScores) -> str:
    """Say in a sentence or two how the pretraining is doing."""
    top = len(scores.dice) - 1
    per_class = ", ".join(f"{k}/{top}: {value:.2f}" for k, value in enumerate(scores.dice))
    swapped = ", ".join(f"{k} {value:.0%}" for k, value in enumerate(scores.swapped) if not np.isnan(value))
    facts = (
        f"Fusion Dice {scores.mean_fused_dice:.3f} ({per_class}), ordinal error {scores.ordinal_error:.3f}; "
        f"k taken for K-k: {swapped}."
    )
    return f"{facts} {_verdict(scores)}"


def _verdict(scores: FusionScores) -> str:
    if not scores.mean_fused_dice >= LEARNING * scores.chance:
        return f"Not yet above chance ({scores.chance:.2f}): normal in the first epochs, later a wrong learning rate."
    if scores.swapped[-1] > SWAPPED:
        return "Pure foreground is mostly called background: normal early, later a reason to lower foreground_ratio."
    if scores.mean_fused_dice > SOLVED:
        return "The task is nearly solved: more epochs will teach little, more cases or finer coefficients would."
    return "Learning."
