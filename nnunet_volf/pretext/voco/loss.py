"""The loss: targets are to be as alike to bases as they overlap with them, and bases not to be alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nnunet_volf.precision import full_precision
from nnunet_volf.pretext.voco.labels import pairs, split_labels
from nnunet_volf.pretext.voco.variants import Variant

_EPSILON = 1e-6  # the author's


@dataclass(frozen=True)
class Terms:
    """The terms of the loss, each a mean over volumes."""

    positive: Tensor  # a target and a base that overlap: too little alike, or too much
    negative: Tensor  # a target and a base that do not: alike
    regularisation: Tensor  # two bases: alike
    between: Tensor  # targets of one volume and bases of the next: not as the teacher sees them


class PositionLoss(nn.Module):
    """The sum of the terms, computed in float32: near 1, where cosines are, halves are too coarse for the logarithm."""

    def __init__(self, variant: Variant, regularisation: float, between_volumes: bool) -> None:
        """Take the version, the weight of the term that keeps bases apart, and whether volumes are compared."""
        super().__init__()
        self.variant = variant
        self.regularisation = regularisation
        self.between_volumes = between_volumes

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch of embeddings (b, 2, n + t, width) for its labels (b, t + 1, n)."""
        terms = self.terms(embeddings, labels)
        return terms.positive + terms.negative + self.regularisation * terms.regularisation + terms.between

    def terms(self, embeddings: Tensor, labels: Tensor) -> Terms:
        """Return the terms of a batch."""
        with full_precision(embeddings.device.type):
            _, targets, bases = split_labels(labels)
            student, teacher = _parts(embeddings, labels.shape[-1])
            positive, negative = self.prediction(predict(embeddings, labels.shape[-1], self.variant), labels)
            between = positive.new_zeros(())
            if self.between_volumes and len(bases) > 1:
                # The teacher's word on the bases of the next volume stands for labels that there are none of.
                told, said = (cosines(seen.targets, seen.bases.roll(-1, 0)) for seen in (teacher, student))
                close, far = self._compare(said, told.detach(), pairs(targets, bases.roll(-1, 0)))
                between = (close + far).mean()
            return Terms(positive, negative, self._alike(student.bases, bases).mean(), between)

    def prediction(self, predicted: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positive and the negative term of predicted overlaps (b, t, n)."""
        shares, targets, bases = split_labels(labels.float())
        positive, negative = self._compare(predicted, shares, pairs(targets, bases))
        return positive.mean(), negative.mean()

    def _compare(self, predicted: Tensor, shares: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each volume the term of pairs that overlap and of those that do not; all are (b, t, n)."""
        close = -torch.log(1 - (shares - predicted).abs() + _EPSILON)
        weights = (shares if self.variant.weighted else (shares > 0).float()) * counted
        far = predicted.square() if self.variant.squared else -torch.log(1 - predicted + _EPSILON)
        return _mean(close, weights), _mean(far, ((shares == 0) & counted).float())

    def _alike(self, bases: Tensor, counted: Tensor) -> Tensor:
        """Return for each volume how alike its bases (b, n, width) are."""
        alike = cosines(bases, bases.detach() if self.variant.one_sided else bases)
        return _mean(alike.square(), pairs(counted, counted).float().triu(diagonal=1))


class _Seen(NamedTuple):
    bases: Tensor  # (b, n, width)
    targets: Tensor  # (b, t, width)


def predict(embeddings: Tensor, bases: int, variant: Variant) -> Tensor:
    """Return how alike each target is to each base (b, t, n), from 0 to 1: the prediction of how much they overlap."""
    student, teacher = _parts(embeddings, bases)
    predicted = cosines(student.targets, teacher.bases)
    return (predicted + cosines(teacher.targets, student.bases)) / 2 if variant.symmetric else predicted


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosines of two sets of vectors (b, n, width) and (b, m, width), those below 0 as 0: (b, n, m)."""
    return (normalize(first, dim=-1) @ normalize(second, dim=-1).transpose(1, 2)).clamp(0, 1)


def _parts(embeddings: Tensor, bases: int) -> tuple[_Seen, _Seen]:
    """Return what the student sees, and what the teacher sees."""
    student, teacher = embeddings.float().unbind(1)
    return _Seen(student[:, :bases], student[:, bases:]), _Seen(teacher[:, :bases], teacher[:, bases:])


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum((1, 2)) / (weights.sum((1, 2)) + _EPSILON)
