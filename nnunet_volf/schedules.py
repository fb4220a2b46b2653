"""The learning rate at any step of a fine-tuning, as a pure function of the settings.

Up to three stages follow each other: one part of the network alone, its rate rising from nothing; the whole network,
its rate rising from nothing again; then nnU-Net's polynomial decay. It is the 'sawtooth' of the OpenMind study (Wald
et al. 2024), without the fall at the end of the first stage. The rising stages go step by step, because a short
training has few epochs; the decay goes epoch by epoch, as nnU-Net's does.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_volf.finetune_settings import FineTuneSettings

EXPONENT = 0.9  # of nnU-Net's PolyLRScheduler


@dataclass(frozen=True)
class Factors:
    """What the highest learning rate is multiplied by."""

    first: float  # for the part that is trained alone at first
    others: float


def rate_factors(settings: FineTuneSettings, epoch: int, step: int) -> Factors:
    """Return the factors of a step, both counted from 0."""
    done = epoch * settings.iterations + step + 1  # with this step, so that none is taken at a rate of nothing
    alone, rising = (_steps(settings, share) for share in (settings.first_stage, settings.warmup))
    if done <= alone:
        return Factors(first=done / alone, others=0.0)
    if done <= alone + rising:
        both = (done - alone) / rising
        return Factors(both, both)
    start = (alone + rising) / settings.iterations
    both = (1 - max(0.0, epoch - start) / (settings.epochs - start)) ** EXPONENT
    return Factors(both, both)


def _steps(settings: FineTuneSettings, share: float) -> int:
    """Return a share of the training in whole steps; a stage that is asked for has one at least."""
    return max(1, round(share * settings.epochs * settings.iterations)) if share else 0
