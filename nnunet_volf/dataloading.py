"""Endless batches of samples that a pretext makes from preprocessed cases: in workers, or in part on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from batchgenerators.dataloading.data_loader import DataLoader
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.damaged_cases import DamagedCase, DamagedCases
from nnunet_volf.errors import DataError
from nnunet_volf.parcels import Parcel, pack, unpack
from nnunet_volf.randomness import fresh_rng, sample_rng

if TYPE_CHECKING:
    from nnunet_volf.pretext.pretext import Sample, Sampler


# In place of a batch: why there will be none. An exception would end a worker, and its message be lost on the way.
STOP = "stop"


class SampleLoader(DataLoader):
    """Batches: ``data`` (b, c, ...), ``target`` (b, ...) or a list of them for deep supervision, and ``keys``.

    Where it is told how many damaged cases there may be, it goes on without them, and says `STOP` when it cannot.
    Otherwise it raises `DamagedCase`.
    """

    def __init__(
        self, cases: UnlabeledCases, batch_size: int, sampler: Sampler, damaged: DamagedCases | None = None
    ) -> None:
        super().__init__(cases, batch_size, 1, None, True, False, True, None)
        self.indices = cases.identifiers
        self.cases = cases
        self.sampler = sampler
        self.damaged = damaged

    def generate_train_batch(self) -> dict[str, Any]:
        """Draw a batch; samples that share work stand beside each other."""
        try:
            with _one_thread(), torch.no_grad():
                return self.batch()
        except (DataError, OSError) as error:
            if self.damaged is None:
                raise
            return {STOP: str(error)}

    def batch(self) -> dict[str, Any]:
        """Draw and read what a batch takes, and make it of that."""
        samples = [sample for parcel in self.collect() for sample in self.sampler.make(parcel)]
        return collate(samples[: self.batch_size])

    def collect(self) -> Iterator[Parcel]:
        """Draw and read what a batch takes, one after the other."""
        if self.damaged is not None:
            self.damaged.refresh()
            self.damaged.require_enough(self.indices)
        samples = 0
        while samples < self.batch_size:
            # For each attempt anew, so that what is drawn next does not depend on when damage was found.
            rng = fresh_rng()
            identifier = self.indices[int(rng.integers(len(self.indices)))]
            parcel = self._collected(rng, identifier)
            if parcel is not None:
                samples += parcel.samples
                yield parcel

    def _collected(self, rng: Generator, identifier: str) -> Parcel | None:
        """Return what a sample is made of, or None where a case that it takes is damaged."""
        try:
            parcel = self.sampler.collect(rng, self.cases, identifier)
        except DamagedCase as damage:
            if self.damaged is None:
                raise
            self.damaged.note(damage, self.indices)
            return None
        if self.damaged is not None:
            self.damaged.note_read()
        return parcel

    def fixed_sample(self, seed: int, index: int) -> Sample:
        """Return sample `index` of the series named by `seed`: always the same, for the same cases and settings.

        It holds all that the pretext needs to show it. The next case takes the place of a damaged one.
        """
        for attempt in count():
            identifier = self.indices[(index + attempt) % len(self.indices)]
            try:
                with _one_thread(), torch.no_grad():
                    sample = self.sampler.draw(sample_rng(seed, index, attempt), self.cases, identifier)[0]
            except DamagedCase as damage:
                if self.damaged is None:
                    raise
                self.damaged.note(damage, self.indices)  # raises before all are
                continue
            if self.damaged is not None:
                self.damaged.note_read()
            return sample
        raise AssertionError


class ParcelLoader(SampleLoader):
    """Batches of what samples are made of, packed; a `BatchMaker` makes the batch, of the same samples."""

    def batch(self) -> dict[str, Any]:
        """Draw and read what a batch takes."""
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
