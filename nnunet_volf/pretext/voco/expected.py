"""What the loss is for networks that know nothing of position: without these numbers, its curve says little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nnunet_volf.pretext.voco.geometry import Region, draw_starts, overlaps
from nnunet_volf.pretext.voco.labels import position_labels
from nnunet_volf.pretext.voco.loss import PositionLoss

_TARGETS = 4000  # enough for two decimals
_COSINES = 201


@dataclass(frozen=True)
class KnownLosses:
    """The loss of networks that give every pair of a target and a base the same cosine."""

    collapsed: float  # 1, and bases are as alike
    nothing: float  # 0
    constant: float  # the best there is, with bases as far apart as one direction that alike to all of them allows

    @classmethod
    def of(cls, region: Region, loss: PositionLoss) -> KnownLosses:
        """Compute them for a region, by means over many targets that are always the same."""
        bases = len(region.bases)
        shares = overlaps(region, draw_starts(np.random.default_rng(0), region, _TARGETS))
        labels = position_labels(shares, torch.ones(bases, dtype=torch.bool), torch.ones(_TARGETS, dtype=torch.bool))

        def of_cosine(cosine: float) -> float:
            positive, negative = loss.prediction(torch.full_like(shares, cosine)[None], labels[None])
            # Unit vectors that all have this cosine to another one have at least this cosine to each other, on average.
            among_bases = max(0.0, (bases * cosine**2 - 1) / (bases - 1))
            return float(positive + negative) + loss.regularisation * among_bases**2

        cosines = torch.linspace(0, 1, _COSINES).tolist()
        return cls(of_cosine(1.0), of_cosine(0.0), min(map(of_cosine, cosines)))


def mean_nearest(region: Region) -> float:
    """Return which share of a target lies in the base that it overlaps most with, on average."""
    return float(overlaps(region, draw_starts(np.random.default_rng(0), region, _TARGETS)).amax(1).mean())
