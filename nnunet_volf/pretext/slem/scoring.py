"""How well a network tells recombinations apart, and what that says in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.pretext.slem.codes import Code
from nnunet_volf.pretext.slem.loss import UNKNOWN

# Better than guessing is an accuracy this many standard errors above it, or, for many classes of which hardly one is
# right yet, a cross-entropy below this share of it.
SIGNIFICANT = 3.0
INFORMED = 0.95
# Above this the pretext task is solved and more steps teach little.
SOLVED = 0.95


@dataclass(frozen=True)
class RecombinationScores:
    """Scores of one set of samples. An answer is what the head gives: a class for a sample, or one for each block."""

    classes: int
    answers: int  # those that could be known
    unknown: int  # those that could not: something in the sample, or the block, shows nothing
    accuracy: float  # share of the right answers
    block_accuracy: tuple[float, ...]  # share of the samples in which a block is right; nan where none could be known
    cross_entropy: float

    @property
    def headline(self) -> float:
        """Accuracy, moved so that guessing is 0 and all right is 1."""
        return (self.accuracy - 1 / self.classes) / (1 - 1 / self.classes) if self.answers else 0.0

    @property
    def parts(self) -> tuple[float, ...]:
        """The accuracy of each block."""
        return self.block_accuracy

    def describe(self) -> str:
        """Say in a sentence or two how the pretraining is doing."""
        if not self.answers:
            return (
                "No held-out sample can be scored: in each of them some channel shows nothing in some block. See "
                "whether a channel is empty in many cases (nnunet-volf preview), or let a coarser grid divide them."
            )
        blocks = ", ".join(f"{value:.0%}" for value in self.block_accuracy)
        unknown = f", {self.unknown} more left out because something shows nothing" if self.unknown else ""
        return (
            f"{self.accuracy:.1%} of {self.answers} answers right{unknown}; guessing among {self.classes} gives "
            f"{1 / self.classes:.1%}. Right in each block: {blocks}. Cross-entropy {self.cross_entropy:.2f}, guessing "
            f"ln {self.classes} = {math.log(self.classes):.2f}. {self._verdict()}"
        )

    def _verdict(self) -> str:
        chance = 1 / self.classes
        lucky = chance + SIGNIFICANT * math.sqrt(chance * (1 - chance) / self.answers)
        if self.accuracy < lucky and self.cross_entropy > INFORMED * math.log(self.classes):
            return (
                "Not yet better than guessing: normal in the first epochs; later a wrong learning rate, or channels "
                "that look the same."
            )
        if self.accuracy > SOLVED:
            return "The task is nearly solved: more epochs will teach little, more cases or a finer grid would."
        return "Learning."

    def to_mapping(self) -> dict[str, Any]:
        """Return the scores as plain data; what is not a number is None."""
        return {
            **asdict(self),
            "block_accuracy": [None if math.isnan(value) else value for value in self.block_accuracy],
            "cross_entropy": self.cross_entropy if self.answers else None,
            "cross_entropy_of_guessing": math.log(self.classes),
            "scaled_accuracy": self.headline,
        }


def count(logits: NDArray[Any], target: NDArray[Any], table: Sequence[Code] | None) -> dict[str, NDArray[Any]]:
    """Count what is right in a batch of logits (b, n, classes) with targets (b, n).

    With a class table there is one answer a sample, and a block is right if the class found says the same about it as
    the true one. Without one, there is one answer a block.
    """
    known = target != UNKNOWN
    found, true = logits.argmax(2), np.where(known, target, 0)
    spread = logits.astype(np.float64) - logits.max(2, keepdims=True)
    surprise = np.log(np.exp(spread).sum(2)) - np.take_along_axis(spread, true[:, :, None], axis=2)[:, :, 0]
    same = (found == true) if table is None else (np.array(table)[found] == np.array(table)[true])[:, 0]
    return {
        "classes": np.array(logits.shape[2]),
        "known": known.sum(),
        "unknown": (~known).sum(),
        "right": (known & (found == true)).sum(),
        "cross_entropy": (surprise * known).sum(),
        "blocks_right": (same & known).sum(0),
        "blocks_known": np.broadcast_to(known, same.shape).sum(0),
    }


def score(measures: Sequence[Mapping[str, NDArray[Any]]]) -> RecombinationScores:
    """Summarise the counts of all batches."""
    total = {name: np.sum([measure[name] for measure in measures], axis=0) for name in measures[0]}
    answers = int(total["known"])
    with np.errstate(invalid="ignore"):
        blocks = total["blocks_right"] / total["blocks_known"]
    return RecombinationScores(
        classes=int(measures[0]["classes"]),
        answers=answers,
        unknown=int(total["unknown"]),
        accuracy=float(total["right"] / max(answers, 1)),
        block_accuracy=tuple(blocks.tolist()),
        cross_entropy=float(total["cross_entropy"] / max(answers, 1)),
    )
