"""Every number of Volume Fusion that a user may change: one frozen, validated dataclass, read from the plans.

The settings live in a plans file, under the key ``volf`` of a configuration. nnU-Net copies the plans next to every
checkpoint, so a checkpoint always says how it was made. Where the two published versions of the method disagree, the
value that each used is a preset; provenance is written beside the number.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_volf.errors import SettingsError

PLANS_KEY = "volf"

SCHEMES = ("grid", "boxes", "shuffle")
PARTNERS = ("same", "other", "mixed")
CROPS = ("tissue", "anywhere")
AUGMENTATIONS = ("volf", "nnunet", "none")
OPTIMIZERS = ("sgd", "adamw")

Range = tuple[float, float]

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
        "augmentation": "volf",
    },
    # Wang et al. 2023 (MIS-FM): PyMIC `volume_fusion` with the settings of its example, random crops and flips only.
    "reference-2023": {
        "scheme": "boxes",
        "coefficients": 4,
        "boxes": (10, 40),
        "size_voxels": ((8, 40), (8, 80), (8, 80)),
        "partner": "other",
        "augmentation": "volf",
        "scale": (1.0, 1.0),
        "intensity": False,
    },
}


@dataclass(frozen=True, kw_only=True)
class VolFSettings:
    """The settings of one pretraining; construct with `from_mapping` to apply a preset and check every value."""

    preset: str = "default"

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
    minimum_distance: float = (
        0.25  # same: between the crops' centres, in patch sides along the axis where it is largest
    )

    # Where crops come from: around voxels of tissue that our preprocessing has stored, or anywhere in the volume.
    crops: str = "tissue"

    # The augmentation of each of the two crops.
    augmentation: str = "volf"
    scale: Range = (0.7, 1.5)  # crop side / patch side, drawn per axis
    flip: float = 0.5  # probability per axis
    intensity: bool = True  # contrast map, gamma and inversion
    percentile_low: Range = (0.1, 2.0)
    percentile_high: Range = (98.0, 99.9)
    gamma: Range = (0.7, 1.5)
    invert: float = 0.25  # probability, one coin for both crops

    reuse_crops: bool = False  # each augmented pair serves two samples, with the roles of its crops exchanged

    # The training. 1000 x 250 steps are nnU-Net's own length and lie between the 200k and 400k steps of the 2023 paper.
    epochs: int = 1000
    iterations: int = 250
    optimizer: str = "sgd"
    learning_rate: float | None = None  # None: 0.01 for sgd (nnU-Net), 0.001 for adamw (the papers' Adam)
    weight_decay: float = 3e-5
    validation_samples: int = 16
    validation_seed: int = 12345
    panel_every: int = 50  # epochs between two pictures of fusions and predictions; 0: only at the end
    save_every_epochs: int = 10
    save_every_minutes: float = 15.0
    nonfinite_limit: int = 25  # skipped steps in one epoch after which the training stops

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> VolFSettings:
        """Build settings from plain data (a plans file's), refusing unknown names and impossible values."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise SettingsError(f"There is no setting {name!r}. {_suggest(name, tuple(fields))}")
        preset = values.get("preset", "default")
        if preset not in tuple(PRESETS):  # a list is no key, and plans may hold one
            raise SettingsError(f"preset is {preset!r}. {_suggest(preset, tuple(PRESETS))}")
        merged = {**PRESETS[preset], **values}
        settings = cls(**{name: _tuples(value) for name, value in merged.items()})
        _check(settings)
        return settings

    def to_mapping(self) -> dict[str, Any]:
        """Return all settings as plain data that JSON keeps."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that the training starts from."""
        if self.learning_rate is not None:
            return self.learning_rate
        return {"sgd": 1e-2, "adamw": 1e-3}[self.optimizer]


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Turn ``["epochs=5", "scheme=boxes"]`` into a mapping; values are JSON, a bare word is text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name.strip():
            raise SettingsError(f"{assignment!r} is not of the form name=value, for example epochs=200.")
        try:
            values[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[name.strip()] = text.strip()
    return values


def _suggest(name: object, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


# Numbers and ranges that may be None: something else decides then.
_OPTIONAL = ("size_fraction", "boxes", "learning_rate")

_CHOICES = {
    "scheme": SCHEMES,
    "partner": PARTNERS,
    "crops": CROPS,
    "augmentation": AUGMENTATIONS,
    "optimizer": OPTIMIZERS,
}
_SWITCHES = ("full_cover", "intensity", "reuse_crops")
_WHOLE_NUMBERS: dict[str, tuple[int, int | None]] = {
    "coefficients": (2, 16),
    "size_minimum": (1, None),
    "epochs": (1, None),
    "iterations": (1, None),
    "validation_samples": (1, None),
    "validation_seed": (0, None),
    "panel_every": (0, None),
    "save_every_epochs": (1, None),
    "nonfinite_limit": (1, None),
}
_NUMBERS = {
    "foreground_ratio": (0.05, 0.95),
    "same_share": (0.0, 1.0),
    "minimum_distance": (0.0, 4.0),
    "flip": (0.0, 1.0),
    "invert": (0.0, 1.0),
    "learning_rate": (1e-8, 10.0),
    "weight_decay": (0.0, 1.0),
    "save_every_minutes": (0.0, 1e6),
}
_RANGES = {
    "size_fraction": (1e-3, 1.0),
    "scale": (0.1, 4.0),
    "percentile_low": (0.0, 49.0),
    "percentile_high": (51.0, 100.0),
    "gamma": (0.05, 20.0),
}


def _check(s: VolFSettings) -> None:
    for name, allowed in _CHOICES.items():
        if getattr(s, name) not in allowed:
            raise SettingsError(f"{name} is {getattr(s, name)!r}. {_suggest(getattr(s, name), allowed)}")
    for name in _SWITCHES:
        if not isinstance(getattr(s, name), bool):
            raise SettingsError(f"{name} is {getattr(s, name)!r}; it must be true or false.")
    for name, (least, most) in _WHOLE_NUMBERS.items():
        _whole(s, name, least, most)
    for name, (low, high) in _NUMBERS.items():
        _number(s, name, low, high)
    for name, (low, high) in _RANGES.items():
        _range(name, getattr(s, name), low, high)
    _range("boxes", s.boxes, 1, 10_000, whole=True)
    if s.size_voxels is not None:
        _voxel_ranges(s.size_voxels)


def _voxel_ranges(ranges: object) -> None:
    if not isinstance(ranges, tuple) or len(ranges) < 2:
        raise SettingsError(f"size_voxels is {ranges!r}; it must hold one [smallest, largest] pair for each axis.")
    for axis, pair in enumerate(ranges):
        _range(f"size_voxels of axis {axis}", pair, 1, 100_000, whole=True)


def _is_number(value: object, whole: bool = False) -> bool:
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)


def _whole(s: VolFSettings, name: str, low: int, high: int | None = None) -> None:
    value = getattr(s, name)
    if not _is_number(value, whole=True) or value < low or (high is not None and value > high):
        bounds = f"{low} or more" if high is None else f"between {low} and {high}"
        raise SettingsError(f"{name} is {value!r}; it must be a whole number, {bounds}.")


def _number(s: VolFSettings, name: str, low: float, high: float) -> None:
    value = getattr(s, name)
    if value is None and name in _OPTIONAL:
        return
    if not _is_number(value) or not low <= value <= high:
        raise SettingsError(f"{name} is {value!r}; it must be a number between {low:g} and {high:g}.")


def _range(name: str, pair: object, low: float, high: float, whole: bool = False) -> None:
    if pair is None and name in _OPTIONAL:
        return
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(_is_number(v, whole) for v in pair):
        kind = "two whole numbers" if whole else "two numbers"
        raise SettingsError(f"{name} is {pair!r}; it must be {kind}, [smallest, largest].")
    if not low <= pair[0] <= pair[1] <= high:
        raise SettingsError(
            f"{name} is {list(pair)}; the smallest must not exceed the largest, and both must lie between "
            f"{low:g} and {high:g}."
        )
