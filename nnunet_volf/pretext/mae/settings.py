"""Every number of masked reconstruction that a user may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.settings import SHARED_RULES, PretrainingSettings
from nnunet_volf.setting_rules import Rules, is_count

RULES = SHARED_RULES.extended(
    whole_numbers={"block_minimum": (1, None)},
    numbers={"masked": (0.05, 0.95), "block_fraction": (1e-3, 0.5)},
)


@dataclass(frozen=True, kw_only=True)
class MAESettings(PretrainingSettings):
    """The settings of one pretraining by masked reconstruction."""

    rules: ClassVar[Rules] = RULES
    plans_key: ClassVar[str] = "volf_mae"

    # The mask. nnssl, whose masked reconstruction ranks first among its methods: 75 % of blocks of 16 in 160 voxels.
    masked: float = 0.75  # share of the blocks that are hidden
    block_fraction: float = 0.1  # side of a block, as a share of the patch axis
    block_minimum: int = 4  # voxels along the longest patch axis, in proportion along the others
    block_voxels: tuple[int, ...] | None = None  # an exact side per axis instead of the two above

    # The image is its own target. As in nnssl only its geometry is augmented, and its intensities stay as they are.
    intensity: bool = False

    def check_together(self) -> None:
        """Check the sides in voxels, one for each axis."""
        sides = self.block_voxels
        if sides is None:
            return
        if not isinstance(sides, tuple) or len(sides) < 2 or not all(map(is_count, sides)):
            raise SettingsError(f"block_voxels is {sides!r}; it must hold one whole number, 1 or more, for each axis.")
