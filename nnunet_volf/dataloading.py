"""Endless batches of samples that a pretext makes from preprocessed cases: in workers, or in part on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from batchgenerators.dataloading.data_loader import DataLoader
from threadpoolctl import threadpool_limits

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.parcels import Parcel, pack, unpack
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
        with _one_thread(), torch.no_grad():
            samples = [sample for parcel in self.collect() for sample in self.sampler.make(parcel)]
            return collate(samples[: self.batch_size])

    def collect(self) -> Iterator[Parcel]:
        """Draw and read what a batch takes, one after the other."""
        samples = 0
        while samples < self.batch_size:
            rng = fresh_rng()
            identifier = self.indices[int(rng.integers(len(self.indices)))]
            parcel = self.sampler.collect(rng, self.cases, identifier)
            samples += parcel.samples
            yield parcel

    def fixed_sample(self, seed: int, index: int) -> Sample:
        """Return sample `index` of the series named by `seed`: always the same, for the same cases and settings.

        It holds all that the pretext needs to show it.
        """
        with _one_thread(), torch.no_grad():
            return self.sampler.draw(sample_rng(seed, index), self.cases, self.indices[index % len(self.indices)])[0]


class ParcelLoader(SampleLoader):
    """Batches of what samples are made of, packed; a `BatchMaker` makes the batch, of the same samples."""

    def generate_train_batch(self) -> dict[str, Any]:
        """Draw and read what a batch takes."""
        with _one_thread(), torch.no_grad():
            return pack(list(self.collect()))


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches on a device of what a `ParcelLoader` hands over; nothing is drawn here."""

    sampler: Sampler
    batch_size: int
    device: torch.device

    @torch.no_grad()
    def __call__(self, packed: dict[str, Any]) -> dict[str, Any]:
        """Return the batch that nnU-Net's trainer takes."""
        samples = [sample for parcel in unpack(packed, self.device) for sample in self.sampler.make(parcel)]
        return collate(samples[: self.batch_size])


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stack samples into the batch that nnU-Net's trainer takes."""
    targets = [sample["target"] for sample in samples]
    stacked = [torch.stack(scale) for scale in zip(*targets, strict=True)] if isinstance(targets[0], list) else None
    return {
        "data": torch.stack([sample["image"] for sample in samples]),
        "target": torch.stack(targets) if stacked is None else stacked,
        "keys": [sample["keys"] for sample in samples],
    }


def _one_thread() -> AbstractContextManager[Any]:
    limit: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api=None)
    return limit
