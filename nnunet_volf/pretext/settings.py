"""What the settings of all pretext tasks have in common: where crops come from, how they are shown, how it is trained.

The settings of a method live in a plans file, under a key of its own in a configuration. nnU-Net copies the plans next
to every checkpoint, so a checkpoint always says how it was made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from nnunet_volf.cpu_use import CPU_PRECISIONS
from nnunet_volf.optimizers import OPTIMIZERS, PEAK_RATES
from nnunet_volf.setting_rules import Rules, Settings

CROPS = ("tissue", "anywhere")

# Where samples are made of what workers have read and drawn.
PLACES = ("auto", "workers", "device")

Range = tuple[float, float]
Kind = TypeVar("Kind", bound="PretrainingSettings")

SHARED_RULES = Rules(
    presets={"default": {}},
    choices={
        "crops": CROPS,
        "augment_on": PLACES,
        "optimizer": OPTIMIZERS,
        "cpu_precision": CPU_PRECISIONS,
    },
    switches=("intensity",),
    whole_numbers={
        "epochs": (1, None),
        "iterations": (1, None),
        "validation_samples": (1, None),
        "validation_seed": (0, None),
        "panel_every": (0, None),
        "save_every_epochs": (1, None),
        "nonfinite_limit": (1, None),
    },
    numbers={
        "flip": (0.0, 1.0),
        "invert": (0.0, 1.0),
        "learning_rate": (1e-8, 10.0),
        "weight_decay": (0.0, 1.0),
        "damaged_limit": (0.0, 1.0),
        "save_every_minutes": (0.0, 1e6),
    },
    ranges={
        "scale": (0.1, 4.0),
        "percentile_low": (0.0, 49.0),
        "percentile_high": (51.0, 100.0),
        "gamma": (0.05, 20.0),
    },
    optional=("learning_rate",),
)


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(Settings):
    """The settings of any pretraining; a method adds its own and may change defaults."""

    peak_rates: ClassVar[Mapping[str, float]] = PEAK_RATES  # where no learning_rate is set, by optimizer

    preset: str = "default"

    # Where crops come from: around voxels of tissue that our preprocessing has stored, or anywhere in the volume.
    crops: str = "tissue"

    # How a crop is shown. The intensities are those of the 2025 publication of Volume Fusion.
    scale: Range = (0.7, 1.5)  # crop side / patch side, drawn per axis
    flip: float = 0.5  # probability per axis
    intensity: bool = True  # contrast map, gamma and inversion
    percentile_low: Range = (0.1, 2.0)
    percentile_high: Range = (98.0, 99.9)
    gamma: Range = (0.7, 1.5)
    invert: float = 0.25  # probability
    augment_on: str = "auto"  # workers, device: the training's own; auto: the device where that is CUDA

    # The training. 1000 x 250 steps are nnU-Net's own length and lie between the 200k and 400k steps of MIS-FM (2023).
    epochs: int = 1000
    iterations: int = 250
    # The papers' Adam. What docs/recipe.md found was found with it, and sgd does not learn SLeM's task (docs/slem.md).
    optimizer: str = "adamw"
    learning_rate: float | None = None  # None: 0.01 for sgd (nnU-Net), 0.001 for adamw (the papers)
    weight_decay: float = 3e-5
    validation_samples: int = 16
    validation_seed: int = 12345
    panel_every: int = 50  # epochs between two pictures; 0: only at the end
    cpu_precision: str = "auto"  # on a CPU: bfloat16 where it has instructions for it, else float32
    save_every_epochs: int = 10
    save_every_minutes: float = 15.0
    nonfinite_limit: int = 25  # skipped steps in one epoch after which the training stops
    # Share of damaged cases that a training goes on without. Single files get damaged in any large archive and teach a
    # network little; where it is more than one in twenty, a disk or a copy has failed, and somebody should know.
    damaged_limit: float = 0.05

    def plain(self: Kind) -> Kind:
        """Return the same settings for samples that are shown as they are."""
        return dataclasses.replace(self, scale=(1.0, 1.0), flip=0.0, intensity=False)

    def made_on_device(self, device_type: str) -> bool:
        """Return whether a training on such a device makes the samples there, of what workers have read and drawn."""
        return self.augment_on == "device" or (self.augment_on == "auto" and device_type == "cuda")

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that the training starts from."""
        return self.learning_rate if self.learning_rate is not None else self.peak_rates[self.optimizer]
