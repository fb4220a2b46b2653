"""SLeM as a pretext task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.on_encoder import OnEncoder
from nnunet_volf.pretext.pretext import Measures, Pretext, Sample
from nnunet_volf.pretext.slem.classes import class_table
from nnunet_volf.pretext.slem.codes import Codes
from nnunet_volf.pretext.slem.grid import block_size, blocks_of, default_grid
from nnunet_volf.pretext.slem.heads import BlockHead, CombinationHead, pool_to
from nnunet_volf.pretext.slem.loss import UNKNOWN, KnownCrossEntropy
from nnunet_volf.pretext.slem.panel import PanelCase, code_in_words, draw_panel
from nnunet_volf.pretext.slem.refusals import check_channels, check_codes, check_grid
from nnunet_volf.pretext.slem.sampler import RecombinationSampler
from nnunet_volf.pretext.slem.scoring import RecombinationScores, count, score
from nnunet_volf.pretext.slem.settings import SLeMSettings


class Recombination(Pretext):
    """The channels of an image are exchanged block by block, and the encoder tells which exchange it was."""

    method = METHODS["slem"]
    # Those that decide how many classes there are and what each of them means.
    refused_changes = (
        "grid",
        "mode",
        "assignment",
        "shuffle_positions",
        "head",
        "most_classes",
        "class_seed",
        "hidden",
    )

    def __init__(self, settings: SLeMSettings, given: Given) -> None:
        """Refuse one channel, blocks that are too small and codes that are too many; choose the classes."""
        super().__init__(settings, given)
        self.grid = settings.grid or default_grid(len(given.patch))
        check_channels(given, settings)
        check_grid(given, self.grid, settings)
        self.codes = Codes(
            channels=len(given.channels),
            blocks=math.prod(self.grid),
            mode=settings.mode,
            assignment=settings.assignment,
            shuffle=settings.shuffle_positions,
        )
        check_codes(self.codes, settings)
        self.table = (
            class_table(self.codes, settings.most_classes, settings.class_seed)
            if settings.head == "combination"
            else None
        )
        self.classes = self.codes.symbols if self.table is None else len(self.table)

    def sampler(self, trainer: Any = None, training: bool = False) -> RecombinationSampler:
        """Return how crops are shown and recombined."""
        return RecombinationSampler(
            patch=self.given.patch,
            grid=self.grid,
            settings=self.settings if training else self.settings.plain(),
            codes=self.codes,
            table=self.table,
        )

    def network(self, unet: nn.Module) -> nn.Module:
        """Put the classifying head on the encoder."""
        pool, features = pool_to(self.grid), self.given.features[-1]
        if self.table is None:
            return OnEncoder(unet, BlockHead(features, pool, self.classes))
        head = CombinationHead(features, pool, self.table, self.settings.hidden, self.settings.dropout)
        return OnEncoder(unet, head)

    def loss(self, nnunets: Callable[[], nn.Module]) -> nn.Module:
        """Return the cross-entropy over what can be told."""
        return KnownCrossEntropy()

    def measure(self, output: Any, target: Any) -> Measures:
        """Count what is right in a batch."""
        return count(output.float().cpu().numpy(), target.cpu().numpy(), self.table)

    def score(self, measures: Sequence[Measures]) -> RecombinationScores:
        """Return the scores of the counts over all batches."""
        return score(measures)

    def expectation(self) -> str:
        """Say what is recombined, and when the loss should leave that of guessing."""
        guessing = f"ln {self.classes} = {math.log(self.classes):.2f}"
        return (
            f"{self._recombined_in_words()}\n"
            f"A healthy run: the cross-entropy starts near {guessing}, which is guessing, and leaves it within a few "
            "hundred to a few thousand steps. A curve that stays there is not healthy: look at the pictures whether "
            "the channels differ at all."
        )

    def draw(self, samples: Sequence[Sample], outputs: Sequence[Any] | None, title: str, path: Path) -> None:
        """Draw the channels before and after, and the true and the found code."""
        cases = []
        for number, sample in enumerate(samples):
            found = None
            if outputs is not None:
                answers = outputs[number][0].argmax(1).tolist()
                found = tuple(answers) if self.table is None else self.table[answers[0]]
            before, after = (sample[name].numpy() for name in ("original", "image"))
            (name,), unknown = sample["keys"], (sample["target"] == UNKNOWN).any()
            name = f"{name}\n(part weighs nothing)" if unknown else name
            cases.append(PanelCase(name, before, after, sample["code"], found))
        draw_panel(cases, self.codes, self.grid, self.given.channels, title, path)

    def preview(self, seed: int) -> list[str]:
        """Say how large blocks are, how many classes there are and how much they differ."""
        sizes = {" x ".join(map(str, block_size(block))) for block in blocks_of(self.given.patch, self.grid)}
        lines = [
            self._recombined_in_words(),
            f"A block is {' or '.join(sorted(sizes))} voxels. A code says {code_in_words(self.codes)}.",
            f"Guessing: {1 / self.classes:.1%} right, cross-entropy ln {self.classes} = {math.log(self.classes):.2f}.",
        ]
        if self.table is not None and len(self.table) < self.codes.count:
            apart = min(sum(np.not_equal(a, b)) for a, b in combinations(self.table, 2))
            lines.append(f"Any two classes differ in {apart} of {self.codes.blocks} blocks or more.")
        return lines

    def _recombined_in_words(self) -> str:
        blocks, channels = " x ".join(map(str, self.grid)), ", ".join(self.given.channels)
        asked = (
            f"one of {self.classes} classes for each block"
            if self.table is None
            else f"{self.classes} classes, out of {self.codes.count} combinations"
        )
        return f"{channels} recombined in {blocks} blocks, mode {self.settings.mode}: {asked}."
