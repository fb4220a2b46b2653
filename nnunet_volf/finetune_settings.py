"""Every number of fine-tuning that a user may change: the schedule, and how often the training is saved.

They live in a plans file, under the key ``volf_finetune`` of a configuration. Everything else of the training is
nnU-Net's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from nnunet_volf.cpu_use import CPU_PRECISIONS
from nnunet_volf.errors import SettingsError
from nnunet_volf.optimizers import OPTIMIZERS, PEAK_RATES
from nnunet_volf.setting_rules import Rules, Settings

FINE_TUNE_KEY = "volf_finetune"
FINE_TUNING = "fine-tuning"  # what checkpoints call it

FIRST = ("none", "heads", "decoder")
FILTER_SIZES = ("initial", "loaded")

# What an optimizer and its groups of parameters are made by: its state fits no other.
OF_THE_OPTIMIZER = ("optimizer", "first", "layer_decay", "heads_rate")

FINE_TUNE_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # nnU-Net's own schedule, whatever our defaults become.
    "nnunet": {
        "epochs": 1000,
        "iterations": 250,
        "optimizer": "sgd",
        "learning_rate": 1e-2,
        "weight_decay": 3e-5,
        "warmup": 0.0,
        "first": "none",
        "layer_decay": 1.0,
        "heads_rate": 1.0,
        "filter_sizes": "loaded",
    },
}

# What trainings did before a setting existed, where that is not its default.
BEFORE_IT_EXISTED = {"filter_sizes": "loaded"}

RULES = Rules(
    presets=FINE_TUNE_PRESETS,
    choices={"optimizer": OPTIMIZERS, "first": FIRST, "filter_sizes": FILTER_SIZES, "cpu_precision": CPU_PRECISIONS},
    whole_numbers={
        "epochs": (1, None),
        "iterations": (1, None),
        "save_every_epochs": (1, None),
        "nonfinite_limit": (1, None),
    },
    numbers={
        "learning_rate": (1e-8, 10.0),
        "weight_decay": (0.0, 1.0),
        "warmup": (0.0, 0.9),
        "first_share": (0.001, 0.9),
        "layer_decay": (0.1, 1.0),
        "heads_rate": (1.0, 1000.0),
        "save_every_minutes": (0.0, 1e6),
    },
    optional=("learning_rate",),
)


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings(Settings):
    """The settings of one fine-tuning; construct with `from_mapping` to apply a preset and check every value."""

    rules: ClassVar[Rules] = RULES
    plans_key: ClassVar[str] = FINE_TUNE_KEY

    preset: str = "default"

    epochs: int = 1000
    iterations: int = 250
    optimizer: str = "adamw"  # far ahead of sgd on short schedules, where measured: docs/benchmarks.md
    learning_rate: float | None = None  # the highest; None: 0.01 for sgd, 0.001 for adamw
    weight_decay: float = 3e-5

    warmup: float = 0.0  # share of the training in which the rate of the whole network rises
    first: str = "none"  # what is trained alone before that; the decoder includes the heads
    first_share: float = 0.05  # share of the training for it: 50 of 1000 epochs in the OpenMind study
    layer_decay: float = 1.0  # factor of the rate for each step away from the output; 1: the same for all layers
    heads_rate: float = 1.0  # factor of the heads' rate: they start from nothing where all else was pretrained

    # Of pretrained filters; initial: the size of the network's own, at which they learn as fast, and compute the same.
    # After a long pretraining it is worth 0.01 to 0.09 Dice: docs/recipe.md.
    filter_sizes: str = "initial"

    cpu_precision: str = "auto"  # on a CPU: bfloat16 where it has instructions for it, else float32
    save_every_epochs: int = 10
    save_every_minutes: float = 15.0
    nonfinite_limit: int = 25  # skipped steps in one epoch after which the training stops

    def check_together(self) -> None:
        """Refuse a training that would never come to its decay."""
        if self.first_stage + self.warmup >= 1:
            raise SettingsError(
                f"first_share {self.first_share:g} and warmup {self.warmup:g} are together the whole training; they "
                "must leave some of it for the learning rate to fall."
            )

    @property
    def peak_learning_rate(self) -> float:
        """The highest learning rate of the layers nearest to the output."""
        return PEAK_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def first_stage(self) -> float:
        """The share of the training in which only a part is trained."""
        return 0.0 if self.first == "none" else self.first_share
