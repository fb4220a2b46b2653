"""Samples: the base and target crops of one region of a case, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.crops import draw_crop
from nnunet_volf.parcels import Parcel
from nnunet_volf.pretext.contrast import shows
from nnunet_volf.pretext.pretext import Sample, Sampler
from nnunet_volf.pretext.voco.geometry import Region, Start, draw_starts, overlaps
from nnunet_volf.pretext.voco.labels import position_labels
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.voco.views import Plane, View, draw_view, show
from nnunet_volf.resizing import resize


@dataclass(frozen=True)
class DrawnRegion:
    """All that is drawn for a region, and where it comes from."""

    key: str
    starts: list[Start]  # of the target crops
    views: list[View]  # of bases, then targets; none: crops stay as they are


@dataclass(frozen=True)
class CropSampler(Sampler):
    """Cuts a region out of a case, and the crops out of that; for training, each crop is shown in a way of its own."""

    region: Region
    settings: VoCoSettings
    planes: tuple[Plane, ...]  # that crops may be turned in
    augmented: bool

    def collect(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> Parcel:
        """Read the region, and draw where its targets lie and how all its crops are shown."""
        crop, _ = draw_crop(rng, cases.open(identifier), self.region.size, self.settings)
        starts = draw_starts(rng, self.region, self.settings.targets)
        shape, shown = (len(crop), *self.region.crop), len(self.region.bases) + len(starts) if self.augmented else 0
        views = [draw_view(rng, shape, self.planes, self.settings) for _ in range(shown)]
        return Parcel((crop,), DrawnRegion(identifier, starts, views))

    def make(self, parcel: Parcel) -> list[Sample]:
        """Return a sample: bases, then targets, as ``image`` (n + t, c, *crop), and the labels as ``target``.

        A panel also finds the ``region`` (c, *size) and where the targets start.
        """
        drawn: DrawnRegion = parcel.drawn
        volume = resize(parcel.crops[0], self.region.size)
        bases = self.region.bases
        crops = torch.stack([self.region.cut(volume, start) for start in (*bases, *drawn.starts)])
        seen = shows(crops, volume).any(1)
        overlap = overlaps(self.region, drawn.starts).to(volume.device)
        labels = position_labels(overlap, seen[: len(bases)], seen[len(bases) :])
        if drawn.views:
            crops = torch.stack([show(crop, view) for crop, view in zip(crops, drawn.views, strict=True)])
        return [{"image": crops, "target": labels, "keys": (drawn.key,), "region": volume, "starts": drawn.starts}]
