"""The settings of VoCo, which live in the plans under ``volf_voco``; numbers of the published versions are presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.settings import SHARED_RULES, PretrainingSettings, Range
from nnunet_volf.pretext.voco.variants import VARIANTS
from nnunet_volf.setting_rules import Rules, is_count

# Of the public repositories' own trainings with AdamW, and of nnssl's with SGD.
PEAK_RATES = {"adamw": 1e-4, "sgd": 1e-2}

# What the published versions used, as far as it differs from our defaults and can be had here. Their grids lie in
# axial planes, which for nnU-Net are those of its last two axes.
_PUBLISHED: dict[str, Any] = {"crop": (64, 64, 64), "targets": 2, "intensity": False}
PRESETS: dict[str, dict[str, Any]] = {
    # The version of the CVPR paper of 2024, as its author published it later.
    "reference-2024": {**_PUBLISHED, "variant": "v0", "grid": (1, 4, 4)},
    # The public repository with weights from 10,000 CT volumes.
    "reference-10k": {**_PUBLISHED, "variant": "v1", "grid": (1, 4, 4)},
    # The TPAMI version with weights from 160,000 CT volumes.
    "reference-160k": {**_PUBLISHED, "variant": "v2", "grid": (1, 3, 3), "width": 1024, "between_volumes": True},
}

RULES = SHARED_RULES.extended(
    presets=PRESETS,
    choices={"variant": tuple(VARIANTS)},
    switches=("between_volumes",),
    whole_numbers={"targets": (1, 64), "width": (2, 16384)},
    numbers={"momentum": (0.0, 1.0), "regularisation": (0.0, 100.0), "rotate": (0.0, 1.0)},
)


@dataclass(frozen=True, kw_only=True)
class VoCoSettings(PretrainingSettings):
    """The settings of one pretraining by VoCo."""

    rules: ClassVar[Rules] = RULES
    plans_key: ClassVar[str] = "volf_voco"
    peak_rates: ClassVar[Mapping[str, float]] = PEAK_RATES

    # Where crops lie. None: chosen from the plan.
    grid: tuple[int, ...] | None = None  # base crops along each axis
    crop: tuple[int, ...] | None = None  # voxels along each axis
    targets: int = 4  # target crops a region; nnssl's number, the authors' own is 2

    # How crops are shown, each on its own: flips and turns as published, intensities as in Volume Fusion.
    scale: Range = (1.0, 1.0)  # of the whole region
    flip: float = 0.2
    rotate: float = 0.2  # probability of a turn by 90, 180 or 270 degrees
    invert: float = 0.0  # no published version inverts

    # What is learnt.
    variant: str = "v1"
    width: int = 2048  # of the projector
    momentum: float = 0.9  # share of the teacher that is kept at each step
    regularisation: float = 1.0  # weight of the term that keeps base crops apart
    between_volumes: bool = False  # the third term of the 2025 version

    weight_decay: float = 0.01  # what the authors' AdamW had

    def check_together(self) -> None:
        """Check grid and crop, which have one number for each axis, and that there is a teacher where one is needed."""
        for name, what in (("grid", "base crops"), ("crop", "voxels")):
            numbers = getattr(self, name)
            if numbers is None:
                continue
            if not isinstance(numbers, tuple) or not all(is_count(number) for number in numbers):
                raise SettingsError(
                    f"{name} is {numbers!r}; it must hold one whole number of {what} for each axis, 1 or more."
                )
        if self.between_volumes and VARIANTS[self.variant].teacher == "none":
            raise SettingsError(
                f"between_volumes needs a teacher, and variant {self.variant} has none. Choose v1 or v2, or set "
                "between_volumes=false."
            )
