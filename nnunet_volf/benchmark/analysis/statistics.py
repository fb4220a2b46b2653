"""How sure a mean is, when the same cases are segmented by trainings that differ by chance.

docs/statistics.md says why it is done so, and how often the intervals were right in simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nnunet_volf.benchmark.analysis.crossed_bootstrap import (
    RESAMPLES,
    Floats,
    mean_over_cases,
    per_case,
    resampled_means,
)

CONFIDENCE = 0.95
FEWEST_CASES = 6  # with 5, no signed-rank test can fall below 0.05: its smallest value is 2 / 2^5
MOST_EXACT = 50  # differing cases; above, the normal approximation of scipy is as good
SAME = 1e-12  # differences below are rounding, not difference


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; with a single case there is none, and all three are the same."""

    value: float
    low: float
    high: float


def mean_interval(values: Floats, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """Return the mean of seeds x cases (NaN where there is no value) and where it would lie with others of both.

    The percentiles of the crossed bootstrap; where few seeds or few cases make them too narrow, their distances from
    the mean are stretched until the interval is as wide as Student's t asks for. Kept within what the metric can be.
    """
    value = mean_over_cases(values)
    if values.shape[1] < 2:
        return Interval(value, value, value)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled_means(values, RESAMPLES), [tail, 1 - tail]).tolist()
    stretch = max(1.0, 2 * half_width(values) / (high - low)) if high - low > SAME else 1.0
    return Interval(
        value, max(value + stretch * (low - value), bounds[0]), min(value + stretch * (high - value), bounds[1])
    )


def half_width(values: Floats) -> float:
    """Return half the width of a t interval for the mean, with two variances: over seeds and over cases.

    The degrees of freedom are Satterthwaite's. What differs from seed to seed and from case to case is in both
    variances and so counts twice, which errs on the safe side.
    """
    cases = per_case(values)
    variances = [(float(cases.var(ddof=1)) / len(cases), len(cases) - 1)]
    if len(values) > 1:
        variances.append((_variance_over_seeds(values), len(values) - 1))
    variance = sum(part for part, _ in variances)
    if variance < SAME**2:
        return 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in variances)
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance))


def _variance_over_seeds(values: Floats) -> float:
    """Leave out one seed after the other (the jackknife, which also works where trainings are missing)."""
    seeds = len(values)
    without = [np.delete(values, seed, axis=0) for seed in range(seeds)]
    means = np.array([mean_over_cases(rest[:, ~np.isnan(rest).all(axis=0)]) for rest in without])
    return float((seeds - 1) / seeds * ((means - means.mean()) ** 2).sum())


def signed_rank_p(differences: Floats) -> float | None:
    """Return the p-value of Wilcoxon's signed-rank test over cases; None for too few cases or no difference at all."""
    differing = np.round(differences[np.abs(differences) > SAME], 12)  # so that ties are ties despite rounding
    if len(differences) < FEWEST_CASES or not len(differing):
        return None
    return _exact_p(differing) if len(differing) <= MOST_EXACT else float(stats.wilcoxon(differing).pvalue)


def _exact_p(differing: Floats) -> float:
    """Count the signs that give a rank sum as far out; unlike scipy's exact test also right, and fast, with ties."""
    doubled_ranks = np.rint(2 * stats.rankdata(np.abs(differing))).astype(int)  # whole numbers also for ties
    ways = np.ones(1)  # for each sum of doubled ranks, how many choices of signs give it
    for rank in doubled_ranks:
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    place = doubled_ranks[differing > 0].sum()
    fewer, more = ways[: place + 1].sum(), ways[place:].sum()
    return float(min(1.0, 2 * min(fewer, more) / ways.sum()))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of one family for being several (Holm, Scand. J. Stat. 6:65, 1979); None stays None."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[place] = largest
    return corrected
