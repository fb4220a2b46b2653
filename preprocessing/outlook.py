"""What a pretraining will do and what it takes, told before anything is done."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_volf.cpu_use import with_a_cpu_each
from nnunet_volf.plans import PlannedDataset
from nnunet_volf.pretext.catalogue import Method
from nnunet_volf.progress import readable_time

from .imported import imported_dataset
from .refusals import Refused
from .sources import Found
from .volumes import peek

# Headers that are read to guess how large the archive will be; a folder of DICOM counts as one image of average size.
HEADERS = 40


@dataclass(frozen=True)
class Size:
    """A guess at the size of the preprocessed archive."""

    images: int
    voxels: float  # of all images, on the grid of the plan

    def bytes(self, dtype: str) -> float:
        """Return what they take on a disk, not compressed."""
        return self.voxels * np.dtype(dtype).itemsize


def guess_size(found: Found, planned: PlannedDataset | None, configuration: str) -> Size | None:
    """Guess from a few headers how many voxels the images will have; None where there is nothing to go by."""
    files = [item for item in found.items if not item.dicom]
    chosen = [files[int(number)] for number in np.linspace(0, len(files) - 1, min(HEADERS, len(files)))]
    voxels = []
    for item in chosen:
        try:
            shape, spacing = peek(Path(item.path))
        except Refused:
            continue
        voxels.append(_resampled(shape, spacing, planned, configuration))
    if not voxels:
        return None
    return Size(len(found.items), float(np.mean(voxels)) * len(found.items))


def _resampled(
    shape: tuple[int, ...], spacing: tuple[float, ...], planned: PlannedDataset | None, configuration: str
) -> float:
    if planned is None:
        return float(np.prod(shape))
    order = planned.plans["transpose_forward"]
    wanted = planned.configuration(configuration)["spacing"]
    own = np.array(spacing)[order]
    factors = own[-len(wanted) :] / np.array(wanted)
    return float(np.prod(shape) * np.prod(factors))


def describe_disk(size: Size | None, dtype: str, folder: Path) -> str:
    """Say how much the preprocessed data will take, and how much there is."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if size is None:
        return f"{folder} has {_readable(free)} free"
    return f"at most about {_readable(size.bytes(dtype))} as {dtype} in {folder}, which has {_readable(free)} free"


def size_of(dataset: str, planned: PlannedDataset | None, configuration: str) -> Size:
    """Return the size of a dataset that was imported before."""
    imported = imported_dataset(dataset)
    voxels = sum(_resampled(case.shape, case.spacing, planned, configuration) for case in imported.cases)
    channels = len(imported.channel_names)
    return Size(channels * len(imported.cases), channels * voxels)


def describe_time(
    planned: PlannedDataset, configuration: str, kept: Mapping[str, Any], method: Method, device: str, gpus: int
) -> str:
    """Time a few steps of the plan's network and say how long the training will take."""
    import torch

    from nnunet_volf.estimate import measure_speed

    pretext = planned.pretext(configuration, kept, method)
    speed = measure_speed(planned.configuration(configuration), pretext, torch.device(device))
    settings = pretext.settings
    workers = _workers(gpus) if device != "cpu" else 0  # on a CPU, all compete for it
    steps = settings.epochs * settings.iterations
    slowest = "the network" if workers and speed.step >= speed.batch / workers else "making batches"
    where = f"{slowest} decides" if workers else "one after the other"
    return (
        f"{settings.epochs} epochs of {settings.iterations} steps = {steps:,} steps. Timed on this {device}: "
        f"{speed.step:.3g} s a step, {speed.batch:.3g} s a batch with one loader worker"
        f"{f', of {workers}' if workers else ''}; {where}: about {readable_time(speed.seconds(settings, workers))}"
    )


def _workers(gpus: int) -> int:
    """Return how many of the loader workers that nnU-Net starts for each GPU have a CPU of their own."""
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    return with_a_cpu_each(int(get_allowed_n_proc_DA()), gpus)


def _readable(size: float) -> str:
    unit, power = next(((unit, power) for unit, power in (("TB", 1e12), ("GB", 1e9)) if size >= power), ("MB", 1e6))
    number = size / power
    return f"{number:,.{0 if number >= 10 else 1}f} {unit}"
