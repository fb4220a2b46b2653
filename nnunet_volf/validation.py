"""A fixed set of held-out samples, so that the curve of a pretraining compares from epoch to epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nnunet_volf.dataloading import SampleLoader, collate


class FixedBatches(Iterator[dict[str, Any]]):
    """The same batches in the same order, over and over; made once and kept in memory.

    Sample `i` of the set depends on the seed, the cases and the settings alone.
    """

    def __init__(self, loader: SampleLoader, seed: int, batches: Sequence[Sequence[int]]) -> None:
        self._batches = [collate([loader.fixed_sample(seed, index) for index in batch]) for batch in batches]
        self._next = 0

    def __len__(self) -> int:
        """Return the number of different batches."""
        return len(self._batches)

    def __next__(self) -> dict[str, Any]:
        """Return the next batch; after the last one comes the first."""
        batch = self._batches[self._next]
        self._next = (self._next + 1) % len(self._batches)
        return batch


def batches_of_rank(samples: int, global_batch: int, batch: int, rank: int = 0, ranks: int = 1) -> list[list[int]]:
    """Deal sample numbers to one of several ranks: no number twice, and as many batches for each rank.

    nnU-Net's Dice loss gathers over the ranks in validation too, so a rank with one batch less would hang the others.
    """
    widest = -(-global_batch // ranks)
    return [
        [(number * ranks + rank) * widest + i for i in range(batch)] for number in range(-(-samples // global_batch))
    ]
