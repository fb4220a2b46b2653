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
from nnunet_volf.cpu_use import fit_network
from nnunet_volf.dataloading import BatchMaker, ParcelLoader, SampleLoader
from nnunet_volf.precision import mixed_precision
from nnunet_volf.pretext.pretext import Pretext
from nnunet_volf.pretext.settings import PretrainingSettings

# The first steps compile kernels and fill caches, and are not counted.
WARM_UP, STEPS = 2, 5
PATIENCE = 20.0  # seconds; a large network on a CPU takes longer than that for one step, which then has to do


@dataclass(frozen=True)
class Speed:
    """Seconds for a step, with what the device does of making its batch, and for what one loader worker does of it."""

    step: float
    batch: float

    def seconds(self, settings: PretrainingSettings, workers: int) -> float:
        """Return how long a training takes; without workers, batches are made between the steps."""
        loading = self.batch / workers if workers else self.batch
        each = max(self.step, loading) if workers else self.step + loading
        return settings.epochs * settings.iterations * each


def measure_speed(configuration: Mapping[str, Any], pretext: Pretext, device: torch.device) -> Speed:
    """Time the network of a plan and the loader on made-up data."""
    given = pretext.given
    cases: Any = _RandomCases(len(given.channels), given.patch)
    sampler = pretext.sampler(training=True)
    loader = SampleLoader(cases, given.batch_size, sampler)
    data = loader.generate_train_batch()["data"].to(device)
    step = _timed(_network_step(configuration, pretext, data), device)
    if not pretext.settings.made_on_device(device.type):
        return Speed(step, _timed(loader.generate_train_batch, torch.device("cpu")))
    parcels, make = ParcelLoader(cases, given.batch_size, sampler), BatchMaker(sampler, given.batch_size, device)
    packed = parcels.generate_train_batch()
    making = _timed(lambda: make(packed), device)
    return Speed(step + making, _timed(parcels.generate_train_batch, torch.device("cpu")))


def _network_step(configuration: Mapping[str, Any], pretext: Pretext, data: torch.Tensor) -> Callable[[], object]:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = configuration["architecture"]
    unet = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        len(pretext.given.channels),
        len(pretext.labels()),
        allow_init=False,
        deep_supervision=pretext.deep_supervision,
    )
    network = pretext.network(unet).to(data.device)
    fit_network(network, data.device.type, pretext.settings.cpu_precision)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, 1e-4, momentum=0.99, nesterov=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with mixed_precision(data.device.type):
            outputs = network(data)
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            loss = torch.stack([output.float().square().mean() for output in outputs if output.requires_grad]).sum()
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
