"""Means of resampled seeds and resampled cases: what would have come out with other cases and other trainings.

A value has two sources of chance, the case and the training. Cases and seeds are therefore drawn with replacement
independently of each other (the pigeonhole bootstrap: McCullagh, Bernoulli 6:285, 2000; Owen, Ann. Appl. Stat. 1:386,
2007). Resampling all values as if each seed gave new cases would take repeats for cases, and be far too sure.

Tables are seeds x cases with NaN where there is no value; every seed and every case has one value at least.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
CHUNK = 2_000  # resamples at a time: 16 MB of counts for 1000 cases
RANDOM_SEED = 20251121  # the same resamples each time, so that a report can be made again


def mean_over_cases(values: Floats) -> float:
    """Return the mean over cases, each first averaged over the seeds that it has."""
    return float(per_case(values).mean())


def per_case(values: Floats) -> Floats:
    """Return the mean over seeds of each case."""
    there = ~np.isnan(values)
    means: Floats = np.where(there, values, 0).sum(axis=0) / there.sum(axis=0)
    return means


def resampled_means(values: Floats, resamples: int = RESAMPLES) -> Floats:
    """Return `mean_over_cases` of each resample.

    A resample in which no drawn case has a value from a drawn seed is left out; that takes a table with many holes.
    """
    seeds, cases = values.shape
    parts = []
    for start in range(0, resamples, CHUNK):
        rows = slice(start, min(start + CHUNK, resamples))
        seed_counts = _draws(seeds, resamples, stream=0)[rows].astype(float)
        case_counts = _draws(cases, resamples, stream=1)[rows].astype(float)
        sums, counted = np.zeros(len(seed_counts)), np.zeros(len(seed_counts))
        for there, members in _alike(values):
            weights = seed_counts @ there
            sampled = weights > 0  # without one of their seeds, these cases have no value in the resample
            totals = (seed_counts * (case_counts @ np.where(np.outer(there, members), values, 0).T)).sum(axis=1)
            sums += np.divide(totals, weights, out=np.zeros_like(totals), where=sampled)
            counted += np.where(sampled, case_counts @ members, 0)
        parts.append(sums[counted > 0] / counted[counted > 0])
    return np.concatenate(parts)


def _alike(values: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Group the cases by the seeds that they have, so that a group's means are matrix products: seeds, and members."""
    patterns, group = np.unique(~np.isnan(values), axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        yield pattern.astype(float), (group.ravel() == number).astype(float)


@lru_cache(maxsize=8)
def _draws(size: int, resamples: int, stream: int) -> NDArray[Any]:
    """Draw ``size`` of ``size`` things with replacement, and count each; the same for all tables of this size."""
    drawn = np.random.default_rng([RANDOM_SEED, stream]).integers(0, size, (resamples, size))
    places = drawn + size * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.uint16)
