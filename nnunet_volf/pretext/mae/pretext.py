"""Masked reconstruction as a pretext task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.mae.masked_images import MaskBlocksTransform, MaskedSampler
from nnunet_volf.pretext.mae.masking import block_counts, check_masking, hidden_count
from nnunet_volf.pretext.mae.panel import MaskedCase, draw_panel
from nnunet_volf.pretext.mae.reconstruction import (
    MaskedSquaredError,
    ReconstructionScores,
    measure_errors,
    score_errors,
)
from nnunet_volf.pretext.mae.settings import MAESettings
from nnunet_volf.pretext.pretext import Measures, Pretext, Sample


class MaskedReconstruction(Pretext):
    """Blocks of the image are hidden by zero, and the whole U-Net, with its skips, fills them in."""

    method = METHODS["mae"]

    def __init__(self, settings: MAESettings, given: Given) -> None:
        """Refuse masks that hide everything or nothing."""
        super().__init__(settings, given)
        check_masking(given.patch, settings)

    def labels(self) -> dict[str, int]:
        """Return an output for each channel of the image; nnU-Net calls the first one background."""
        return {"background": 0, **{f"channel_{i}": i for i in range(1, len(self.given.channels))}}

    def sampler(self, trainer: Any = None, training: bool = False) -> MaskedSampler:
        """Return how crops are cut and masked."""
        settings = self.settings if training else self.settings.plain()
        return MaskedSampler(self.given.patch, settings, MaskBlocksTransform(self.given.patch, settings))

    def network(self, unet: nn.Module) -> nn.Module:
        """Return the U-Net; only the last of its heads takes part."""
        heads: Any = getattr(unet.decoder, "seg_layers", None)
        if heads is not None:
            heads[:-1].requires_grad_(False)  # or DDP would wait for their gradients
        return unet

    def loss(self, nnunets: Callable[[], nn.Module]) -> nn.Module:
        """Return the squared error on what is hidden."""
        return MaskedSquaredError()

    def measure(self, output: Tensor, target: Tensor) -> Measures:
        """Return sums of errors over a batch."""
        return measure_errors(output, target)

    def score(self, measures: Sequence[Measures]) -> ReconstructionScores:
        """Return the share of the hidden variance that is explained."""
        return score_errors(measures)

    def expectation(self) -> str:
        """Say what is hidden, and how the loss falls."""
        return (
            f"{self._mask_in_words()}.\n"
            "A healthy run: the loss starts near the variance of the images and falls fast, as the network first finds "
            "the mean, then blurred anatomy, then edges. 'Explains' rises from 0; below 5 % after the first epochs the "
            "learning rate is wrong."
        )

    def draw(self, samples: Sequence[Sample], outputs: Sequence[Any] | None, title: str, path: Path) -> None:
        """Draw image, masked image, reconstruction and error."""
        made = [None] * len(samples) if outputs is None else [output[0].float().numpy() for output in outputs]
        cases = [MaskedCase.from_sample(sample, output) for sample, output in zip(samples, made, strict=True)]
        draw_panel(cases, self.given.channels, title, path)

    def preview(self, seed: int) -> list[str]:
        """Return what is hidden."""
        return [f"patch {self.given.patch}: {self._mask_in_words()}"]

    def _mask_in_words(self) -> str:
        blocks = block_counts(self.given.patch, self.settings)
        sides = " x ".join(f"{side / count:.3g}" for side, count in zip(self.given.patch, blocks, strict=True))
        return f"{hidden_count(blocks, self.settings)} of {math.prod(blocks)} blocks are hidden, of {sides} voxels each"
