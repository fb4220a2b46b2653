"""Cases that differ most from the others: often a wrong header, another body part or another modality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .report_data import AXES, ImportReport, Measures, shown

# Modified z-scores above 3.5 are called outliers: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993.
THRESHOLD = 3.5
# Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL = 1.4826
# And this does so with the distance between the 5th and the 95th percentile: what one case in twenty shows is a group
# (a second protocol, say), which the plots show better.
_TAILS = 1 / (2 * 1.645)
# In an archive of one protocol the deviation is 0 and any difference would be infinite. With this least deviation,
# spacing and size have to differ by a factor of 1.4, and intensities by a third of the usual range.
_LEAST = 0.1


@dataclass(frozen=True)
class Outlier:
    """A case, and in what it differs most."""

    case: str
    aspect: str  # spacing, size or intensity
    what: str
    score: float


def find_outliers(report: ImportReport, measures: Measures) -> list[Outlier]:
    """Return the cases that stand out, most first, each with what is most unusual about it."""
    if not report.cases:
        return []
    features = list(_features(report, measures))
    scores = np.stack([feature.scores() for feature in features], axis=1)
    worst = scores.argmax(axis=1)
    outliers = [
        Outlier(report.cases[n]["case"], features[worst[n]].aspect, features[worst[n]].describe(n), scores[n, worst[n]])
        for n in np.flatnonzero(scores.max(axis=1) > THRESHOLD).tolist()
    ]
    return sorted(outliers, key=lambda outlier: (-outlier.score, outlier.case))


@dataclass(frozen=True)
class _Feature:
    aspect: str
    name: str
    unit: str
    values: NDArray[np.float64]
    scale: float | None = None  # what differences are measured in; None compares ratios

    @cached_property
    def median(self) -> float:
        return float(np.median(self.values))

    def scores(self) -> NDArray[np.float64]:
        values = np.log(np.maximum(self.values, 1e-9)) if self.scale is None else self.values / self.scale
        distance = np.abs(values - np.median(values))
        low, high = np.percentile(values, (5, 95))
        usual = max(_NORMAL * float(np.median(distance)), _TAILS * float(high - low), _LEAST)
        scores: NDArray[np.float64] = np.round(distance / usual, 6)
        return scores

    def describe(self, number: int) -> str:
        return f"{self.name} {shown(self.values[number])}{self.unit} (median {shown(self.median)}{self.unit})"


def _features(report: ImportReport, measures: Measures) -> Iterator[_Feature]:
    # A wrong spacing makes a wrong size of the same score: the first one named is the cause.
    for axis, name in enumerate(AXES):
        yield _Feature("spacing", f"spacing along {name}", " mm", measures.spacing[:, axis])
    for axis, name in enumerate(AXES):
        yield _Feature("size", f"size along {name}", " mm", measures.extent[:, axis])
    for channel, name in enumerate(report.channel_names):
        low, median, high = measures.intensities[:, channel].T
        usual = float(np.median(high - low)) or 1.0
        of = f" of {name}" if len(report.channel_names) > 1 else ""
        yield _Feature("intensity", f"0.5th percentile{of}", "", low, usual)
        yield _Feature("intensity", f"median intensity{of}", "", median, usual)
        yield _Feature("intensity", f"99.5th percentile{of}", "", high, usual)
