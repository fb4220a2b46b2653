"""How long a pretraining will take: a few steps are timed before anything is preprocessed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_volf.cases import CaseImage
from nnunet_volf.dataloading import FusionLoader
from nnunet_volf.recipes import pair_recipe
from nnunet_volf.settings import VolFSettings

# The first steps compile kernels and fill caches, and are not counted.
WARM_UP, STEPS = 2, 5
PATIENCE = 20.0  # seconds; a large network on a CPU takes longer than that for one step, which then has to do


@dataclass(frozen=True)
class Speed:
    """Seconds for a step of the network, and for making a batch with one loader worker."""

    step: float
    batch: float

    def seconds(self, settings: VolFSettings, workers: int) -> float:
        """Return how long a training takes; without workers, batches are made between the steps."""
        loading = self.batch / workers if workers else self.batch
        each = max(self.step, loading) if workers else self.step + loading
        return settings.epochs * settings.iterations * each


def measure_speed(
    configuration: Mapping[str, Any], channels: int, settings: VolFSettings, device: torch.device
) -> Speed:
    """Time the network of a plan and the loader on made-up data."""
    patch, batch_size = tuple(configuration["patch_size"]), int(configuration["batch_size"])
    step = _network_step(configuration, channels, settings.coefficients + 1, device)
    loader = FusionLoader(_RandomCases(channels, patch), batch_size, pair_recipe(patch, settings))  # type: ignore[arg-type]
    return Speed(_timed(step, device), _timed(loader.generate_train_batch, torch.device("cpu")))


def _network_step(
    configuration: Mapping[str, Any], channels: int, classes: int, device: torch.device
) -> Callable[[], object]:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = configuration["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        channels,
        classes,
        allow_init=False,
        deep_supervision=True,
    ).to(device)
    optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.99, nesterov=True)
    patch, batch_size = configuration["patch_size"], int(configuration["batch_size"])
    data = torch.randn(batch_size, channels, *patch, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            outputs = network(data)
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            loss = torch.stack([output.float().log_softmax(1)[:, 0].mean() for output in outputs]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


class _RandomCases:
    """A case to cut crops from, half as large again as the patch along each axis."""

    def __init__(self, channels: int, patch: Sequence[int]) -> None:
        shape = (channels, *(max(1, side * 3 // 2) for side in ((1, *patch) if len(patch) == 2 else patch)))
        voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        self.identifiers = ["made up"]
        self._case = CaseImage("made up", Path(), voxels)

    def open(self, identifier: str) -> CaseImage:
        return self._case


def _timed(step: Callable[[], object], device: torch.device) -> float:
    """Return the median of a few timed steps; of fewer where they are slow."""
    seconds: list[float] = []
    while len(seconds) < WARM_UP + STEPS and sum(seconds) < PATIENCE:
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:] or seconds[-1:])
