"""What stands on the encoder: each crop's features of all stages, averaged over the crop and projected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from nnunet_volf.pretext.on_encoder import OnEncoder
from nnunet_volf.pretext.voco.shared_norm import SharedNorm
from nnunet_volf.pretext.voco.variants import Variant


class PositionHead(nn.Module):
    """Projects crops (b, crops, c, *size) to embeddings (b, 2, crops, width): the student's, and the teacher's.

    The teacher is a copy that follows the student slowly and gets no gradient; where a version has none, the student
    without gradient stands in. It is not what is kept: the student's encoder is.
    """

    def __init__(self, student: OnEncoder, features: Sequence[int], width: int, variant: Variant) -> None:
        """Take what the teacher begins as a copy of, and how many features its stages have."""
        super().__init__()
        self.stages = variant.stages
        self.projector = projector(sum(features) if self.stages == "all" else features[-1], width)
        whole = variant.teacher == "whole"
        self.teacher_encoder = _copy(student.encoder) if whole else None
        self.teacher_context = _copy(student.context) if whole else None
        self.teacher_projector = _copy(self.projector) if variant.teacher != "none" else None

    def forward(self, encoder: Callable[[Tensor], list[Tensor]], crops: Tensor) -> Tensor:
        """Return the embeddings; all crops of the batch go through as one, for they are normalised together."""
        together = crops.flatten(0, 1)
        features = self._averaged(encoder(together))
        student = self.projector(features)
        with torch.no_grad():
            if self.teacher_encoder is not None and self.teacher_context is not None:
                *finer, deepest = self.teacher_encoder(together)
                features = self._averaged([*finer, self.teacher_context(deepest)])
            teacher = student if self.teacher_projector is None else self.teacher_projector(features)
        both = (seen.unflatten(0, crops.shape[:2]) for seen in (student, teacher.detach()))
        return torch.stack(list(both), dim=1)

    @torch.no_grad()
    def follow(self, student: OnEncoder, momentum: float) -> None:
        """Move the teacher towards the student."""
        pairs: list[tuple[nn.Module | None, nn.Module]] = [
            (self.teacher_encoder, student.encoder),
            (self.teacher_context, student.context),
            (self.teacher_projector, self.projector),
        ]
        for teacher, leader in pairs:
            if teacher is not None:
                for kept, new in zip(teacher.parameters(), leader.parameters(), strict=True):
                    kept.mul_(momentum).add_(new, alpha=1 - momentum)

    def _averaged(self, stages: Sequence[Tensor]) -> Tensor:
        projected = stages if self.stages == "all" else stages[-1:]
        return torch.cat([features.flatten(2).mean(-1) for features in projected], dim=1)


def projector(features: int, width: int) -> nn.Sequential:
    """Return three layers, normalised by the mean and spread over all crops of a step.

    The normalisation keeps no running statistics, in validation either. It is what holds embeddings apart: normalised
    one by one, those of an untrained network are all alike and stay so.
    """
    return nn.Sequential(
        nn.Linear(features, width),
        SharedNorm(),
        nn.ReLU(inplace=True),
        nn.Linear(width, width),
        SharedNorm(),
        nn.ReLU(inplace=True),
        nn.Linear(width, width),
    )


def _copy(student: nn.Module) -> nn.Module:
    return deepcopy(student).requires_grad_(False)
