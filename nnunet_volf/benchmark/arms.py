"""The arms of a comparison: what a training starts from, and which trainer trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_volf.errors import BenchmarkError
from nnunet_volf.next_commands import FINE_TUNER

SCRATCH, VOLF, ENCODER, STOCK = "scratch", "volf", "encoder", "stock"
KNOWN = (SCRATCH, ENCODER, VOLF, STOCK)
STOCK_TRAINER = "nnUNetTrainer"


@dataclass(frozen=True)
class Arm:
    """A name, the trainer, and the weights it starts from, if any."""

    name: str
    trainer: str = FINE_TUNER
    weights: str | None = None
    scope: str = "all"  # of the weights: all, or the encoder only, which is what nnU-Net's import of nnssl carries

    def __str__(self) -> str:
        if self.weights is None:
            return f"{self.trainer} without weights"
        return f"{self.trainer} from {'the encoder of ' if self.scope == 'encoder' else ''}{self.weights}"


def parse_arms(asked: Sequence[str], pretrained: str | None) -> tuple[Arm, ...]:
    """Read arms such as ``scratch volf other=FILE``; ``volf`` and ``encoder`` start from the pretrained weights."""
    arms: dict[str, Arm] = {}
    for text in asked or (KNOWN if pretrained else (SCRATCH, STOCK)):
        arm = _parse(text, pretrained)
        if arm.name in arms:
            raise BenchmarkError(f"The arm {arm.name} is named twice in --arms {' '.join(asked)}.")
        arms[arm.name] = arm
    if SCRATCH not in arms:  # everything is compared with it
        arms = {SCRATCH: Arm(SCRATCH), **arms}
    return tuple(arms.values())


def _parse(text: str, pretrained: str | None) -> Arm:
    name, sign, weights = text.partition("=")
    if sign:
        if name in KNOWN or not name.isidentifier():
            raise BenchmarkError(
                f"{name!r} cannot be the name of an arm with weights of its own. Take letters, digits and _, and none "
                f"of {', '.join(KNOWN)}: --arms mine={weights or 'FILE'}."
            )
        return Arm(name, weights=weights)
    if name not in KNOWN:
        raise BenchmarkError(f"There is no arm {name!r}. Known: {', '.join(KNOWN)}; others are given as NAME=FILE.")
    if name in (VOLF, ENCODER):
        if pretrained is None:
            raise BenchmarkError(f"The arm {name} starts from pretrained weights: name them with --pretrained FILE.")
        return Arm(name, weights=pretrained, scope="encoder" if name == ENCODER else "all")
    return Arm(name, trainer=STOCK_TRAINER if name == STOCK else FINE_TUNER)
