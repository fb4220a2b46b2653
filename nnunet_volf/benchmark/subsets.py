"""Which labelled cases are trained on, watched and tested on: decided by folds and seeds, and by nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_volf.benchmark.experiment import Cases
from nnunet_volf.errors import BenchmarkError

DEFAULT_LABELS = ("3", "5", "10", "100%")
VALIDATION_SHARE = 0.2  # of a fold's training cases, as nnU-Net holds out
_VALIDATION_SEED = 12345  # nnU-Net's own for its splits; the same cases whatever the seeds of the trainings


def divide(split: Mapping[str, Sequence[str]], validation: int | None = None) -> Cases:
    """Divide a fold: its validation cases are tested on; some of its training cases are only watched."""
    test, training = sorted(split["val"]), sorted(split["train"])
    number = max(1, round(VALIDATION_SHARE * len(training))) if validation is None else validation
    if not 1 <= number < len(training):
        raise BenchmarkError(
            f"{number} validation cases of {len(training)} training cases cannot be held out: at least one is watched "
            "during training and at least one trained on. Choose with --validation-cases."
        )
    if not test:
        raise BenchmarkError("The fold has no validation cases to test on. Choose another with --folds.")
    watched = set(_shuffled(training, [_VALIDATION_SEED])[:number])
    pool = tuple(case for case in training if case not in watched)
    return Cases(tuple(test), tuple(sorted(watched)), pool)


def subset(pool: Sequence[str], number: int, seed: int) -> tuple[str, ...]:
    """Return some cases of a pool; with the same seed, fewer of them are among more of them."""
    return tuple(sorted(_shuffled(sorted(pool), [seed])[:number]))


def label_counts(asked: Sequence[str], pools: Sequence[int]) -> tuple[int, ...]:
    """Return numbers of labelled cases, from numbers and percentages of the smallest fold's pool."""
    smallest = min(pools)
    counts = {_count(text, smallest) for text in asked or DEFAULT_LABELS}
    if not asked:
        counts = {count for count in counts if count <= smallest}
    too_many = [count for count in counts if count > smallest]
    if too_many:
        raise BenchmarkError(
            f"--labels {max(too_many)}: there are {smallest} labelled cases to draw from, test and validation cases "
            "aside. Ask for fewer, or for 100%."
        )
    return tuple(sorted(counts))


def _count(text: str, pool: int) -> int:
    number, percent, rest = text.partition("%")
    try:
        share = float(number) if percent else int(number)
    except ValueError:
        share = 0
    if rest or share <= 0 or (percent and share > 100):
        raise BenchmarkError(f"--labels {text}: give whole numbers of cases, such as 5, or shares, such as 50%.")
    return math.ceil(pool * share / 100) if percent else int(share)


def _shuffled(cases: Sequence[str], seed: Sequence[int]) -> list[str]:
    return [cases[index] for index in np.random.default_rng(list(seed)).permutation(len(cases))]
