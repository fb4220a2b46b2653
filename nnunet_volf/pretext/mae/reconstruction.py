"""How well hidden voxels are filled in: the loss, and scores that can be compared between data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from nnunet_volf.precision import full_precision

# Below this share of the hidden variance nothing has been learnt that the mean does not say; above, little is left.
LEARNING, SOLVED = 0.05, 0.95


class MaskedSquaredError(nn.Module):
    """The mean squared error over the hidden voxels of all channels; visible ones are given and teach nothing."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare an output (b, c, *patch) with a target (b, c + 1, *patch), whose last channel is the mask."""
        with full_precision(output.device.type):
            image, hidden = target[:, :-1].float(), target[:, -1:].float()
            error = (output.float() - image).square() * hidden
            return error.sum() / (hidden.sum() * image.shape[1]).clamp(min=1)


@dataclass(frozen=True)
class ReconstructionScores:
    """Errors over all hidden voxels of a set of samples, a channel."""

    error: tuple[float, ...]  # mean squared error
    by_mean: tuple[float, ...]  # the same for the mean of what is visible in a sample, put everywhere

    @property
    def parts(self) -> tuple[float, ...]:
        """The share of each channel's hidden variance that is explained; 0 is no better than the mean."""
        return tuple(1 - e / m if m > 0 else 0.0 for e, m in zip(self.error, self.by_mean, strict=True))

    @property
    def headline(self) -> float:
        """The mean of the shares."""
        return float(np.mean(self.parts))

    def describe(self) -> str:
        """Say in a sentence or two how the pretraining is doing."""
        channels = f" ({', '.join(f'{part:.2f}' for part in self.parts)} a channel)" if len(self.parts) > 1 else ""
        return (
            f"Explains {self.headline:.1%} of what is hidden{channels}: mean squared error {np.mean(self.error):.3f}, "
            f"and {np.mean(self.by_mean):.3f} for the mean of what is visible. {self._verdict()}"
        )

    def _verdict(self) -> str:
        if not self.headline >= LEARNING:
            return "Not yet better than the mean: normal in the first epochs, later a wrong learning rate."
        if self.headline > SOLVED:
            return "The task is nearly solved: larger blocks or a larger share of them would teach more."
        return "Learning."

    def to_mapping(self) -> dict[str, Any]:
        """Return all numbers as plain data."""
        return {
            "explained": self.headline,
            "explained_per_channel": list(self.parts),
            "error_per_channel": list(self.error),
            "error_of_the_visible_mean_per_channel": list(self.by_mean),
        }


def measure_errors(output: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    """Return, a channel, the summed squared errors of a batch and of the visible mean, and the number of voxels."""
    image, hidden = target[:, :-1].double(), target[:, -1:].double()
    space = tuple(range(2, image.ndim))
    visible = 1 - hidden
    mean = (image * visible).sum(space, keepdim=True) / visible.sum(space, keepdim=True)
    over = (0, *space)
    return {
        "error": ((output.double() - image).square() * hidden).sum(over).cpu().numpy(),
        "by_mean": ((mean - image).square() * hidden).sum(over).cpu().numpy(),
        "voxels": hidden.sum().cpu().numpy(),
    }


def score_errors(measures: Sequence[Mapping[str, Any]]) -> ReconstructionScores:
    """Return the scores over all batches."""
    voxels = sum(float(batch["voxels"]) for batch in measures)
    error, by_mean = (np.sum([batch[name] for batch in measures], axis=0) / voxels for name in ("error", "by_mean"))
    return ReconstructionScores(tuple(error.tolist()), tuple(by_mean.tolist()))
