"""Samples: the base and target crops of one region of a case, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nnunet_volf.augment import resize
from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.crops import draw_crop
from nnunet_volf.pretext.contrast import shows
from nnunet_volf.pretext.pretext import Sample
from nnunet_volf.pretext.voco.geometry import Region, draw_starts, overlaps
from nnunet_volf.pretext.voco.labels import position_labels
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.voco.views import Plane, draw_view, show


@dataclass(frozen=True)
class CropSampler:
    """Cuts a region out of a case, and the crops out of that; for training, each crop is shown in a way of its own."""

    region: Region
    settings: VoCoSettings
    planes: tuple[Plane, ...]  # that crops may be turned in
    augmented: bool

    def draw(self, rng: np.random.Generator, cases: UnlabeledCases, identifier: str) -> list[Sample]:
        """Return a sample: bases, then targets, as ``image`` (n + t, c, *crop), and the labels as ``target``.

        A panel also finds the ``region`` (c, *size) and where the targets start.
        """
        crop, _ = draw_crop(rng, cases.open(identifier), self.region.size, self.settings)
        volume = resize(crop, self.region.size)
        starts = draw_starts(rng, self.region, self.settings.targets)
        bases = self.region.bases
        crops = torch.stack([self.region.cut(volume, start) for start in (*bases, *starts)])
        seen = shows(crops, volume).any(1)
        labels = position_labels(overlaps(self.region, starts), seen[: len(bases)], seen[len(bases) :])
        if self.augmented:
            crops = torch.stack([show(crop, draw_view(rng, crop.shape, self.planes, self.settings)) for crop in crops])
        return [{"image": crops, "target": labels, "keys": (identifier,), "region": volume, "starts": starts}]
