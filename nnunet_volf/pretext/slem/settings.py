"""The settings of SLeM, which live in the plans under ``volf_slem``.

Its publication says that each channel is divided into four blocks, that blocks are combined at random and that each
combination is a class. All other numbers are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.settings import SHARED_RULES, PretrainingSettings, Range
from nnunet_volf.pretext.slem.codes import ASSIGNMENTS, MODES
from nnunet_volf.setting_rules import Rules, is_count

HEADS = ("combination", "blocks")

RULES = SHARED_RULES.extended(
    choices={"mode": MODES, "assignment": ASSIGNMENTS, "head": HEADS},
    switches=("shuffle_positions",),
    whole_numbers={"most_classes": (2, 1024), "class_seed": (0, None), "hidden": (1, 16384)},
    numbers={"dropout": (0.0, 0.95)},
    ranges={"contrast": (0.01, 100.0), "brightness": (-10.0, 10.0)},
)


@dataclass(frozen=True, kw_only=True)
class SLeMSettings(PretrainingSettings):
    """The settings of one pretraining by SLeM."""

    rules: ClassVar[Rules] = RULES
    plans_key: ClassVar[str] = "volf_slem"

    # What is recombined.
    grid: tuple[int, ...] | None = None  # blocks along each axis; None: four, quarters of each slice
    mode: str = "cyclic"  # which orders of the channels a block may show
    assignment: str = "product"  # any order in any block, or with "permutation" each order in exactly one block
    shuffle_positions: bool = False  # blocks change places too, as in a jigsaw puzzle

    # What is asked.
    head: str = "combination"  # one class for the whole image, or with "blocks" one for each block
    most_classes: int = 256
    class_seed: int = 0  # of the choice of classes, where there are more combinations than that
    hidden: int = 512  # width of the head
    dropout: float = 0.1  # in the head

    # How a channel is shown, each on its own, besides the shared map and gamma.
    contrast: Range = (0.65, 1.5)  # factor
    brightness: Range = (-0.5, 0.5)  # shift, in units of the spread
    invert: float = 0.0  # an inverted channel may look like another one, as T1 and T2 do

    validation_samples: int = 32  # an answer a sample is coarser than one a voxel

    def check_together(self) -> None:
        """Check the grid, which has one number for each axis, and that the ways to recombine go together."""
        grid = self.grid
        if grid is not None and not (isinstance(grid, tuple) and len(grid) in (2, 3) and all(map(is_count, grid))):
            raise SettingsError(
                f"grid is {list(grid) if isinstance(grid, tuple) else grid!r}; it must hold one whole number of blocks "
                "for each axis, such as [1, 2, 2], or [2, 2] for a 2D configuration."
            )
        if grid is not None and math.prod(grid) < 2:
            raise SettingsError(f"grid is {list(grid)}, one block. With one there is nothing to combine; ask for more.")
        if self.assignment == "permutation" and self.mode == "permutation":
            raise SettingsError(
                "assignment=permutation gives each channel one block, and mode=permutation shows all channels in each "
                "block in any order. Choose one of the two."
            )
