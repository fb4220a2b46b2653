"""What a preprocessed case is made of: while this stays the same, the case need not be done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .imported import ImportedCase

# Raised when this package comes to make other voxels, or another file, of the same input. Not for voxels that differ by
# the rounding of float32, nor for another compression: what was preprocessed before is as good as what is made now.
FORMAT = 1

# Of nnU-Net's normalisations these read no statistics; new statistics do not change their voxels.
_WITHOUT_STATISTICS = (
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)


def plan_signature(plans: Mapping[str, Any], configuration: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return what a plan and its configuration (with what it inherits) contribute.

    Not part of it: patch and batch size, network and settings, which leave voxels alone; and nnU-Net's version, as
    an upgrade would have a whole archive done again for the same voxels.
    """
    schemes = configuration["normalization_schemes"]
    statistics = plans["foreground_intensity_properties_per_channel"]
    masked = any(configuration["use_mask_for_norm"])
    signature = {
        "format": FORMAT,
        "dtype": dtype,
        "preprocessor": configuration["preprocessor_name"],
        "reader": plans["image_reader_writer"],
        "transpose": plans["transpose_forward"],
        "target_spacing": configuration["spacing"],
        "normalization": schemes,
        "masked": configuration["use_mask_for_norm"],
        "statistics": [
            None if scheme in _WITHOUT_STATISTICS else statistics[str(channel)]
            for channel, scheme in enumerate(schemes)
        ],
        "resampling": [configuration["resampling_fn_data"], configuration["resampling_fn_data_kwargs"]],
        "mask_resampling": [configuration["resampling_fn_seg"], configuration["resampling_fn_seg_kwargs"]]
        if masked
        else None,
    }
    return _plain(signature)


def case_signature(case: ImportedCase, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the signature of a case: the plan's, the voxels', and the grid on which they lie."""
    return _plain({**plan, "content": case.content, "shape": case.shape, "spacing": case.spacing})


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Bring to the types that a file gives back, so that equal signatures compare equal."""
    plain: dict[str, Any] = json.loads(json.dumps(mapping))
    return plain
