"""The voxels of one case as nnU-Net's preprocessing gives them for a plan, without what only labels need.

nnU-Net crops to what is not zero, normalises and resamples. The first two are its own functions here, and so is the
resampling, except for its splines, which `resampling` computes in a twentieth of the time. Left out are the resampling
of an empty segmentation, the filling of holes in a mask that nothing reads, and copies.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice, get_bbox_from_mask
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray

from .assembly import SAME_SPACING
from .failures import describe_error
from .orientation import REORIENTING, nearest_axes, reoriented
from .refusals import Refused
from .resampling import mask_resampler_of, resampler_of
from .stages import NORMALISE, READ, RESAMPLE, WHOLE, Stopwatch
from .volumes import Volume, read_volume

# What a preprocessor class may redefine; one that does is asked itself.
_OWN_STEPS = ("run_case", "run_case_npy", "_normalize")

# Asked for by nnU-Net's methods; without a segmentation nothing in it is used.
_NO_LABELS: dict[str, Any] = {"labels": {"background": 0}, "channel_names": {}, "file_ending": ""}


@dataclass(frozen=True)
class Preprocessed:
    """The image (c, x, y, z), and where a normalisation used it the mask: 0 inside, -1 outside."""

    data: NDArray[np.float32]
    mask: NDArray[np.int8] | None


def preprocess_case(
    images: Sequence[Path], plans: str, configuration: str, watch: Stopwatch | None = None
) -> Preprocessed:
    """Read, crop, normalise and resample the channels of a case.

    Args:
        images: one file a channel.
        plans: the plans as JSON text, which a worker then parses only once.
        configuration: its name in the plans.
        watch: is told how long each stage takes.
    """
    plan, config, preprocessor = _managers(plans, configuration)
    ours = all(getattr(type(preprocessor), step) is getattr(DefaultPreprocessor, step) for step in _OWN_STEPS)
    watch = watch or Stopwatch()
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints, also paths
        if ours:
            with watch.during(READ):
                read, properties = read_images(images, plan.image_reader_writer_class())
            data, mask = _preprocessed(read, properties["spacing"], plan, config, preprocessor, watch)
        else:
            with watch.during(WHOLE):
                data, mask, _ = preprocessor.run_case([str(i) for i in images], None, plan, config, _NO_LABELS)
    # One sum finds them all: a NaN or an infinity stays one in a sum, and float64 has room for any float32.
    if not np.isfinite(data.sum(dtype=np.float64)):
        raise Refused(
            "non-finite",
            "Its voxels are NaN or infinite after normalisation and resampling.",
            "Look for NaN or infinite voxels in the image, and whether the plans' intensity statistics are numbers.",
        )
    return Preprocessed(np.asarray(data, dtype=np.float32), mask if any(config.use_mask_for_norm) else None)


def read_images(images: Sequence[Path], reader: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Read the channels with nnU-Net's reader of the plan; what it cannot read, with ours."""
    files = [str(image) for image in images]
    with contextlib.suppress(Exception):  # readers raise whatever their library does; ours says what is wrong
        data, properties = reader.read_images(files)
        if data.shape[0] == len(files) and data.ndim == 4:
            return data, dict(properties)
    to_ras = type(reader).__name__.endswith(REORIENTING)
    volumes = [read_volume(image) for image in images]
    volumes = [_to_ras(volume) for volume in volumes] if to_ras else volumes
    first = volumes[0]
    for number, volume in enumerate(volumes[1:], start=1):
        same = np.allclose(volume.spacing, first.spacing, rtol=SAME_SPACING)
        if volume.voxels.shape != first.voxels.shape or not same:
            raise Refused(
                "grids",
                f"Channel {number} has {_grid(volume)}, channel 0 has {_grid(first)} (z, y, x).",
                "Resample the channels of this subject onto one grid, or import them with that option.",
            )
    stacked = np.stack([volume.voxels for volume in volumes]).astype(np.float32)
    return stacked, {"spacing": [float(s) for s in first.spacing[::-1]]}


def _preprocessed(
    data: NDArray[np.float32],
    spacing: Sequence[float],
    plan: PlansManager,
    config: Any,
    preprocessor: Any,
    watch: Stopwatch,
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Do what run_case_npy does. Views stay views until resampling: numpy's sums depend on the order in memory.

    The mask says something only where the plan normalises inside it.
    """
    order = plan.transpose_forward
    before = [spacing[axis] for axis in order]
    target = _target_spacing(before, config)
    masked = any(config.use_mask_for_norm)
    with watch.during(NORMALISE):
        data = np.asarray(data, dtype=np.float32).transpose([0] + [axis + 1 for axis in order])
        data, mask = crop_to_nonzero(data)[:2] if masked else _cropped(data)
        shape = compute_new_shape(data.shape[1:], before, target)
        if min(shape) < 1:
            raise Refused(
                "too-small",
                f"Its {data.shape[1:]} voxels of {_millimetres(before)} would be {tuple(int(n) for n in shape)} at the "
                f"plan's spacing of {_millimetres(target)}.",
                "Check its spacing; a scan this thin holds nothing to learn from.",
            )
    try:
        with watch.during(NORMALISE):
            data = preprocessor._normalize(data, mask, config, plan.foreground_intensity_properties_per_channel)
        with watch.during(RESAMPLE):
            data = resampler_of(config.resampling_fn_data)(data, shape, before, target)
            if masked:
                mask = mask_resampler_of(config.resampling_fn_seg)(mask, shape, before, target).astype(np.int8)
    except (LookupError, TypeError, AttributeError, AssertionError) as error:  # of names, statistics and arguments
        raise _no_way(error) from error
    return data, mask


def _cropped(data: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Crop as crop_to_nonzero does, with a mask that is not read: the normalisers want one of that shape.

    nnU-Net fills the holes of its mask first, which changes its content but not its bounding box.
    """
    nonzero = data[0] != 0
    for channel in data[1:]:
        nonzero |= channel != 0
    box = (slice(None), *bounding_box_to_slice(get_bbox_from_mask(nonzero)))
    data = data[box]
    return data, np.broadcast_to(np.int8(0), (1, *data.shape[1:]))


def _target_spacing(before: Sequence[float], config: Any) -> list[float]:
    target = list(config.spacing)
    return [before[0], *target] if len(target) < len(before) else target  # 2d leaves the distance of slices alone


@lru_cache(maxsize=4)
def _managers(plans: str, configuration: str) -> tuple[PlansManager, ConfigurationManager, DefaultPreprocessor]:
    """Have nnU-Net look up what plans name: in its own packages alone, whatever the names are."""
    try:
        plan = PlansManager(json.loads(plans))
        config = plan.get_configuration(configuration)
        preprocessor = config.preprocessor_class(verbose=False)
        _named = plan.image_reader_writer_class, config.resampling_fn_data, config.resampling_fn_seg
    except Exception as error:  # it looks at nothing before it uses it
        raise _no_way(error) from error
    return plan, config, preprocessor


def _no_way(error: Exception) -> Refused:
    return Refused("plan", f"nnU-Net cannot follow its plans ({describe_error(error)}).", "Plan the dataset again.")


def _to_ras(volume: Volume) -> Volume:
    """Turn the axes to run right, front and up as nearly as they can, as nnU-Net's reorienting readers do."""
    left, back, up = (volume.spacing[axis] for axis, _ in nearest_axes(volume.direction))
    return Volume(reoriented(volume)[:, ::-1, ::-1], (left, back, up))


def _grid(volume: Volume) -> str:
    return f"{volume.voxels.shape} voxels of {_millimetres(volume.spacing[::-1])}"


def _millimetres(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing) + " mm"
