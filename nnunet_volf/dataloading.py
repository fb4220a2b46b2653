"""Endless batches of samples that a pretext makes from preprocessed cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import DataLoader
from threadpoolctl import threadpool_limits

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.randomness import fresh_rng, sample_rng

if TYPE_CHECKING:
    from nnunet_volf.pretext.pretext import Sample, Sampler


class SampleLoader(DataLoader):
    """Batches: ``data`` (b, c, ...), ``target`` (b, ...) or a list of them for deep supervision, and ``keys``."""

    def __init__(self, cases: UnlabeledCases, batch_size: int, sampler: Sampler) -> None:
        super().__init__(cases, batch_size, 1, None, True, False, True, None)
        self.indices = cases.identifiers
        self.cases = cases
        self.sampler = sampler

    def generate_train_batch(self) -> dict[str, Any]:
        """Draw a batch; samples that share work stand beside each other."""
        samples: list[Sample] = []
        while len(samples) < self.batch_size:
            rng = fresh_rng()
            samples += self._draw(rng, self.indices[int(rng.integers(len(self.indices)))])
        return collate(samples[: self.batch_size])

    def fixed_sample(self, seed: int, index: int) -> Sample:
        """Return sample `index` of the series named by `seed`: always the same, for the same cases and settings.

        It holds all that the pretext needs to show it.
        """
        return self._draw(sample_rng(seed, index), self.indices[index % len(self.indices)])[0]

    def _draw(self, rng: np.random.Generator, identifier: str) -> list[Sample]:
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            return self.sampler.draw(rng, self.cases, identifier)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stack samples into the batch that nnU-Net's trainer takes."""
    targets = [sample["target"] for sample in samples]
    stacked = [torch.stack(scale) for scale in zip(*targets, strict=True)] if isinstance(targets[0], list) else None
    return {
        "data": torch.stack([sample["image"] for sample in samples]),
        "target": torch.stack(targets) if stacked is None else stacked,
        "keys": [sample["keys"] for sample in samples],
    }
