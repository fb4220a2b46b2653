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
# A network that cannot tell background from foreground sends half of class k to class K - k.
SWAPPED = 0.3


@dataclass(frozen=True)
class FusionScores:
    """Scores of one set of fusions; K is the number of coefficients, classes run from 0 to K."""

    dice: tuple[float, ...]  # per class; nan for a class that occurs neither in truth nor in prediction
    ordinal_error: float  # mean of |predicted - true| / K: 0 is perfect
    swapped: float  # share of the voxels of class k that were called K - k, over all k that differ from K - k
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
    truth, found = counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        dice = 2 * counts.diagonal() / (truth + found)

    share = truth / max(counts.sum(), 1)
    guessed = 2 * share / classes / (share + 1 / classes)
    distance = np.abs(index[:, None] - index[None, :]) / (classes - 1)
    off_centre = index != classes - 1 - index
    mirrored = counts[index, classes - 1 - index]
    return FusionScores(
        dice=tuple(dice.tolist()),
        ordinal_error=float((counts * distance).sum() / max(counts.sum(), 1)),
        swapped=float(mirrored[off_centre].sum() / max(truth[off_centre].sum(), 1)),
        chance=float(guessed[1:].mean()),
    )


def describe(scores: FusionScores) -> str:
    """Say in a sentence or two how the pretraining is doing."""
    top = len(scores.dice) - 1
    per_class = ", ".join(f"{k}/{top}: {value:.2f}" for k, value in enumerate(scores.dice))
    facts = (
        f"Fusion Dice {scores.mean_fused_dice:.3f} ({per_class}), ordinal error {scores.ordinal_error:.3f}, "
        f"k taken for K-k {scores.swapped:.1%}."
    )
    return f"{facts} {_verdict(scores)}"


def _verdict(scores: FusionScores) -> str:
    if not scores.mean_fused_dice >= LEARNING * scores.chance:
        return f"Not yet above chance ({scores.chance:.2f}): normal in the first epochs, later a wrong learning rate."
    if scores.swapped > SWAPPED:
        return "Background and foreground are often confused: normal early, later a reason to lower foreground_ratio."
    if scores.mean_fused_dice > SOLVED:
        return "The task is nearly solved: more epochs will teach little, more cases or finer coefficients would."
    return "Learning."
