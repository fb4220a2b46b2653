"""How the validation Dice rises, and how soon an arm reaches what scratch ends with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convergence:
    """The validation Dice of an arm after each epoch."""

    arm: str
    labels: int
    curve: tuple[float, ...]  # mean over seeds and folds
    spread: tuple[tuple[float, float], ...]  # the lowest and the highest seed
    reached: int | None  # iterations until the curve first reaches scratch's final value
    scratch_reached: int
    target: float  # scratch's final value
