"""VoCo as a pretext: where in a region does a crop lie?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from nnunet_volf.pretext.catalogue import METHODS, Method
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.on_encoder import OnEncoder
from nnunet_volf.pretext.pretext import Pretext, Sample
from nnunet_volf.pretext.voco.expected import KnownLosses, mean_nearest
from nnunet_volf.pretext.voco.head import PositionHead
from nnunet_volf.pretext.voco.loss import PositionLoss, predict
from nnunet_volf.pretext.voco.panel import PanelCase, draw_panel
from nnunet_volf.pretext.voco.sampler import CropSampler
from nnunet_volf.pretext.voco.scoring import UNTRAINED, PositionScores, measure, score
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.voco.sizes import by, choose_region
from nnunet_volf.pretext.voco.variants import VARIANTS
from nnunet_volf.pretext.voco.views import planes_to_turn_in


class VolumeContrast(Pretext):
    """Trains an encoder to tell how much a crop overlaps with each crop of a grid."""

    method: ClassVar[Method] = METHODS["voco"]
    refused_changes: ClassVar[tuple[str, ...]] = ("width", "variant")

    settings: VoCoSettings

    def __init__(self, settings: VoCoSettings, given: Given) -> None:
        """Choose grid and crops, or refuse what cannot be trained."""
        super().__init__(settings, given)
        self.variant = VARIANTS[settings.variant]
        self.region = choose_region(settings, given)
        self.planes = planes_to_turn_in(self.region.crop, given.spacing)
        self.position_loss = PositionLoss(self.variant, settings.regularisation, settings.between_volumes)

    def sampler(self, trainer: Any = None, training: bool = False) -> CropSampler:
        """Return how samples are made."""
        settings = self.settings if training else self.settings.plain()
        return CropSampler(self.region, settings, self.planes, augmented=training)

    def network(self, unet: nn.Module) -> nn.Module:
        """Return the encoder with projector and teacher."""
        network = OnEncoder(unet, nn.Identity())
        network.head = PositionHead(network, self.given.features, self.settings.width, self.variant)
        return network

    def loss(self, nnunets: Callable[[], nn.Module]) -> nn.Module:
        """Return the loss."""
        return self.position_loss

    def before_step(self, network: Any) -> None:
        """Move the teacher, with the student's weights of before this step."""
        network.head.follow(network, self.settings.momentum)

    def measure(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Return true and predicted overlaps, and the terms of the loss."""
        predicted = predict(output, target.shape[-1], self.variant)
        return measure(predicted, target, self.position_loss.terms(output, target))

    def score(self, measures: Sequence[Mapping[str, Any]]) -> PositionScores:
        """Return the scores over batches."""
        return score(measures)

    def expectation(self) -> str:
        """Say what is done, and what a healthy run looks like."""
        known = KnownLosses.of(self.region, self.position_loss)
        return (
            f"{self._what()} Variant {self.settings.variant}. Only the encoder is trained.\n"
            "A healthy run: the position correlation r rises; an untrained encoder has some already, up to "
            f"{UNTRAINED}, for crops that "
            f"overlap share voxels. The loss falls below {known.constant:.2f}, what the best constant answer gets; "
            f"{known.collapsed:.2f} is a collapse (all crops look alike), {known.nothing:.2f} an encoder that finds no "
            "crop like another. A correlation that stays where it began is not healthy, whatever the loss."
        )

    def draw(self, samples: Sequence[Sample], outputs: Sequence[Any] | None, title: str, path: Path) -> None:
        """Draw regions with their crops, and true and predicted positions."""
        predicted: list[Tensor | None] = [None] * len(samples)
        if outputs is not None:
            predicted = [predict(output, len(self.region.bases), self.variant)[0] for output in outputs]
        cases = [PanelCase.from_sample(*pair) for pair in zip(samples, predicted, strict=True)]
        draw_panel(cases, self.region, title, path)

    def preview(self, seed: int) -> list[str]:
        """Return lines about region and crops."""
        nearest = f"On average {mean_nearest(self.region):.0%} of a target lie in the base nearest to it."
        return [self._what(), nearest, self._room()]

    def _what(self) -> str:
        region = self.region
        return (
            f"Each region of {by(region.size)} voxels holds {by(region.grid)} = {len(region.bases)} base crops of "
            f"{by(region.crop)} voxels and {self.settings.targets} target crops; how much do they overlap?"
        )

    def _room(self) -> str:
        """Say how images and region go together."""
        median = self.given.median_shape
        fits = all(side >= size for side, size in zip(median, self.region.size, strict=True))
        room = "has room for the region" if fits else "is smaller than the region"
        return f"The median image, {by(median)} voxels, {room}; smaller images are stretched to the region."
