"""How well a network tells where crops lie, and what that says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nnunet_volf.pretext.voco.labels import pairs, split_labels
from nnunet_volf.pretext.voco.loss import Terms

# All crops are alike above this: the network has collapsed, and little leads out again.
COLLAPSED = 0.95
# A correlation below this, or within so many standard errors of 0, is none.
LEARNING = 0.1
STANDARD_ERRORS = 3
# What untrained encoders tell at most of the volumes they were tried on, see docs/voco.md: crops that overlap share
# voxels, and features of any kind show that.
UNTRAINED = 0.55
# Above this the pretext task is solved and more steps teach little.
SOLVED = 0.95


@dataclass(frozen=True)
class PositionScores:
    """Scores of one set of targets."""

    position: float  # correlation of true and predicted overlap beyond what the base alone tells; 0 by guessing
    correlation: float  # the same with what the base alone tells: bases in the middle overlap more
    accuracy: float  # share of targets for which the base predicted as the nearest is the nearest
    chance: float  # of the same, for always naming the same base
    alike: float  # mean predicted overlap; near 1 where all crops look the same to the network
    pairs: int  # of a target and a base, from which all this comes
    positive: float  # the terms of the loss
    negative: float
    regularisation: float
    between: float

    @property
    def headline(self) -> float:
        """The number that chooses the best checkpoint."""
        return self.position

    @property
    def parts(self) -> tuple[float, ...]:
        """What nnU-Net prints in place of the Dice of each class."""
        return (self.position, self.accuracy)

    def describe(self) -> str:
        """Say in a sentence or two how the pretraining is doing."""
        return (
            f"Position correlation r {self.position:.3f} (with what the base alone tells {self.correlation:.3f}); "
            f"nearest base found for {self.accuracy:.0%} of targets (chance {self.chance:.0%}); loss terms: positive "
            f"{self.positive:.3f}, negative {self.negative:.3f}, regularisation {self.regularisation:.3f}"
            f"{f', between volumes {self.between:.3f}' if self.between else ''}. {self._verdict()}"
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return all numbers as plain data."""
        return {
            "position_correlation": self.position,
            "correlation": self.correlation,
            "nearest_base_accuracy": self.accuracy,
            "nearest_base_accuracy_by_chance": self.chance,
            "mean_predicted_overlap": self.alike,
            "pairs": self.pairs,
            "loss_positive": self.positive,
            "loss_negative": self.negative,
            "loss_regularisation": self.regularisation,
            "loss_between_volumes": self.between,
        }

    def _verdict(self) -> str:
        if self.alike > COLLAPSED:
            return (
                f"Collapsed: all crops look alike to the network (mean cosine {self.alike:.2f}). If the next epochs do "
                "not change that, start again with a lower learning_rate or more crops a step."
            )
        if self.position < max(LEARNING, STANDARD_ERRORS / max(self.pairs, 1) ** 0.5):
            return "No position information: less than untrained encoders have, a reason to lower learning_rate."
        if self.position < UNTRAINED:
            return (
                f"Position is told in part. Untrained encoders tell up to {UNTRAINED}, for crops that overlap share "
                "voxels: what counts is that the correlation rises."
            )
        if self.position > SOLVED:
            return "The task is nearly solved: more epochs will teach little, more cases or a finer grid would."
        return "Learning."


def measure(predicted: Tensor, labels: Tensor, terms: Terms) -> dict[str, NDArray[np.float64]]:
    """Return what scores need of a batch: a row for each target that counts, with NaN for bases that do not."""
    shares, targets, bases = split_labels(labels)
    counted = pairs(targets, bases).cpu().numpy()
    true, said = (
        np.where(counted, values.detach().float().cpu().numpy().astype(np.float64), np.nan)[targets.cpu().numpy()]
        for values in (shares, predicted)
    )
    values = (terms.positive, terms.negative, terms.regularisation, terms.between)
    return {"true": true, "predicted": said, "terms": np.array([float(value) for value in values])}


def score(measures: Sequence[Mapping[str, Any]]) -> PositionScores:
    """Return the scores over batches."""
    true, predicted = (np.concatenate([part[name] for part in measures]) for name in ("true", "predicted"))
    terms = np.mean([part["terms"] for part in measures], axis=0).tolist()
    counted = ~np.isnan(true)
    if not counted.any():
        return PositionScores(0.0, 0.0, 0.0, 0.0, 0.0, 0, *terms)
    nearest = np.nanargmax(true, axis=1)
    return PositionScores(
        position=correlation(_within_bases(true)[counted], _within_bases(predicted)[counted]),
        correlation=correlation(true[counted], predicted[counted]),
        accuracy=float(np.mean(np.nanargmax(predicted, axis=1) == nearest)),
        chance=float(np.bincount(nearest).max() / len(nearest)),
        alike=float(predicted[counted].mean()),
        pairs=int(counted.sum()),
        positive=terms[0],
        negative=terms[1],
        regularisation=terms[2],
        between=terms[3],
    )


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Pearson's r, and 0 where one of the two is the same throughout."""
    first, second = first - first.mean(), second - second.mean()
    spread = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / spread) if spread > 1e-9 * max(1.0, len(first)) else 0.0


def _within_bases(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how values (targets, bases) differ from the mean of their base.

    A base in the middle overlaps with more targets than one in a corner, so that a network that knows nothing of the
    targets can still be right about bases.
    """
    counted = ~np.isnan(values)
    totals, numbers = np.where(counted, values, 0).sum(0), np.maximum(counted.sum(0), 1)
    centred: NDArray[np.float64] = values - totals / numbers
    return centred
