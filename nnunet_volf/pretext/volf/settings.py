"""Every number of Volume Fusion that a user may change: one frozen, validated dataclass, read from the plans.

Where the two published versions of the method disagree, the value that each used is a preset; provenance is written
beside the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.settings import SHARED_RULES, PretrainingSettings, Range
from nnunet_volf.setting_rules import Rules, check_range

PLANS_KEY = "volf"

SCHEMES = ("grid", "boxes", "shuffle")
PARTNERS = ("same", "other", "mixed")
AUGMENTATIONS = ("volf", "nnunet", "none")

# What the two publications used, as far as it differs from our defaults. Sizes are voxels, for a 64 x 128 x 128 patch.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Wang et al. 2025: PyMIC `VolumeFusion` and `Crop4VolumeFusion` at their code defaults.
    "reference-2025": {
        "scheme": "grid",
        "coefficients": 4,
        "foreground_ratio": 0.7,
        "full_cover": False,
        "size_voxels": ((8, 32), (8, 32), (8, 32)),
        "partner": "same",
        "minimum_distance": 0.0,
        "turned": False,
        "augmentation": "volf",
        "intensity": True,
    },
    # Wang et al. 2023 (MIS-FM): PyMIC `volume_fusion` with the settings of its example, random crops and flips only.
    "reference-2023": {
        "scheme": "boxes",
        "coefficients": 4,
        "boxes": (10, 40),
        "size_voxels": ((8, 40), (8, 80), (8, 80)),
        "partner": "other",
        "turned": False,
        "augmentation": "volf",
        "scale": (1.0, 1.0),
        "intensity": False,
    },
}


RULES = SHARED_RULES.extended(
    presets=PRESETS,
    choices={"scheme": SCHEMES, "partner": PARTNERS, "augmentation": AUGMENTATIONS},
    switches=("full_cover", "reuse_crops", "turned"),
    whole_numbers={"coefficients": (2, 16), "size_minimum": (1, None)},
    numbers={"foreground_ratio": (0.05, 0.95), "same_share": (0.0, 1.0), "minimum_distance": (0.0, 4.0)},
    ranges={"size_fraction": (1e-3, 1.0)},
    whole_ranges={"boxes": (1, 10_000)},
    optional=("size_fraction", "boxes"),
)


@dataclass(frozen=True, kw_only=True)
class VolFSettings(PretrainingSettings):
    """The settings of one pretraining; construct with `from_mapping` to apply a preset and check every value."""

    rules: ClassVar[Rules] = RULES
    plans_key: ClassVar[str] = PLANS_KEY

    # The label map.
    scheme: str = "grid"
    coefficients: int = 4  # K: the fusion coefficients are 0, 1/K ... 1, hence K + 1 classes
    foreground_ratio: float = 0.7  # share of the grid's blocks that are fused (grid, shuffle)
    full_cover: bool = True  # grid: cut blocks at the border are fused too; the publication leaves a rim of background
    size_fraction: Range | None = None  # side of a block or box, as a share of the patch axis; None: the scheme's own
    size_minimum: int = 4  # voxels along the longest patch axis, in proportion along the others
    size_voxels: tuple[tuple[int, int], ...] | None = None  # an exact range per axis instead of the two above
    boxes: tuple[int, int] | None = None  # boxes: how many are drawn; None: 10 to 40 in 3D (2023), 4 to 14 in 2D

    # The second volume.
    partner: str = "mixed"
    same_share: float = 0.5  # mixed: how often the partner is another crop of the same case
    # same: between the crops' centres, in patch sides along the axis where it is largest
    minimum_distance: float = 0.25

    # The foreground stands on its head: flipped along every axis, and neither crop by `flip`. Fine-tuned with 10 labels
    # on the hippocampus it is worth +0.048 Dice (+0.019 to +0.072), the published task nothing: docs/recipe.md.
    turned: bool = True

    # Tones stay as they are, as fine-tuning will see them. After 1,000 steps that was worth +0.050 Dice (+0.009 to
    # +0.093), and +0.019 (-0.082 to +0.116) with the contrast map, gamma and inversion of 2025: docs/recipe.md.
    intensity: bool = False

    augmentation: str = "volf"  # of each of the two crops; volf: as the shared settings say, inversion by one coin
    reuse_crops: bool = False  # each augmented pair serves two samples, with the roles of its crops exchanged

    def made_on_device(self, device_type: str) -> bool:
        """Return whether a training on such a device makes the samples there."""
        return self.augmentation != "nnunet" and super().made_on_device(device_type)

    def check_together(self) -> None:
        """Check where samples are made, and the sizes in voxels, which have one range for each axis."""
        if self.augment_on == "device" and self.augmentation == "nnunet":
            raise SettingsError(
                "augment_on is 'device', but augmentation is 'nnunet': nnU-Net's own augmentation draws and applies in "
                "one go, on CPUs. Set augment_on=workers, or augmentation=volf."
            )
        if self.size_voxels is None:
            return
        if not isinstance(self.size_voxels, tuple) or len(self.size_voxels) < 2:
            raise SettingsError(
                f"size_voxels is {self.size_voxels!r}; it must hold one [smallest, largest] pair for each axis."
            )
        for axis, pair in enumerate(self.size_voxels):
            check_range(f"size_voxels of axis {axis}", pair, 1, 100_000, whole=True)
