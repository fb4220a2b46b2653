"""Where the time of an epoch goes: waiting for batches, taking steps, and how much of it the GPU works."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

# The driver's figure is an average over its last second at most, so that asking more often tells no more.
GPU_ASKED_EVERY = 1.0


class StepTimes:
    """A stop watch that lies beside one epoch."""

    def __init__(self, device: torch.device) -> None:
        self.waited = 0.0  # seconds for batches
        self._device = device
        self._steps: list[float] = []
        self._shares: list[float] = []
        self._asked = perf_counter() if device.type == "cuda" else None  # None: there is nobody to ask

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what is done within as waiting for a batch."""
        started = perf_counter()
        try:
            yield
        finally:
            self.waited += perf_counter() - started

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count what is done within as a step; nnU-Net's ends when its loss is known, and so the GPU's work is done."""
        started = perf_counter()
        yield
        self._steps.append(perf_counter() - started)
        self._ask_driver()

    @property
    def median_step(self) -> float | None:
        """Seconds of a step, or None before the first."""
        return statistics.median(self._steps) if self._steps else None

    @property
    def gpu_share(self) -> float | None:
        """The share of time in which the GPU did anything, or None where nobody tells."""
        return statistics.mean(self._shares) if self._shares else None

    def _ask_driver(self) -> None:
        if self._asked is None or perf_counter() - self._asked < GPU_ASKED_EVERY:
            return
        try:
            self._shares.append(torch.cuda.utilization(self._device) / 100)
            self._asked = perf_counter()
        except Exception:  # without nvidia-ml-py, or a driver that does not tell: all that is lost is a figure
            self._asked = None
