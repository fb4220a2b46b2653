"""What is left to loader workers when the device of the training makes the samples, and what the device has to do.

    python benchmarks/handing_over.py [--patch 128 128 128] [--channels 1] [--rounds 15]

Workers are measured by their processor time. The second part needs a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path
from time import process_time
from unittest import mock

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from loader import BATCH, SCALES, given_on, write_cases
from timing import Timed, arguments, conditions, print_table, side_by_side

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.dataloading import BatchMaker, ParcelLoader, SampleLoader
from nnunet_volf.pretext.volf.pretext import VolumeFusion
from nnunet_volf.pretext.volf.settings import VolFSettings

WHOLE = "whole batch"


def handed_over(loader: SampleLoader) -> int:
    """Make what a worker hands over, put it where other processes find it, and return its size in bytes."""
    batch = next(loader)
    tensors = [batch["voxels"]] if "voxels" in batch else [batch["data"], *batch["target"]]
    return sum(int(tensor.share_memory_().nbytes) for tensor in tensors)


def in_turn(call: Callable[[], object]) -> Callable[[], object]:
    """Return a call that draws, when it is made for the nth time, what all others draw then."""
    numbers = count()

    def seeded() -> object:
        np.random.seed(next(numbers))  # noqa: NPY002 - the state that loaders draw from
        return call()

    return seeded


def exactly(call: Callable[[], int]) -> int:
    """Call with crops that travel as float32."""
    with mock.patch("nnunet_volf.parcels.fits_halves", return_value=False):
        return call()


def rounding(samples: SampleLoader, parcels: ParcelLoader, make: BatchMaker) -> tuple[float, float]:
    """Return how much batches made of halves differ from exact ones, typically and at most; voxels spread by 1."""
    errors = []
    for seed in range(5):
        batches = []
        for loader in (samples, parcels):
            np.random.seed(seed)  # noqa: NPY002 - the state that loaders draw from
            batches.append(next(loader))
        errors.append(make(batches[1])["data"].cpu() - batches[0]["data"])
    every = torch.cat(errors)
    return float(every.square().mean().sqrt()), float(every.abs().max())


def main() -> None:
    """Print a table and a line, and another table where there is a GPU."""
    args = arguments(__doc__)
    patch = tuple(args.patch)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    with tempfile.TemporaryDirectory() as name:
        cases = UnlabeledCases(name, write_cases(Path(name), patch, args.channels))
        settings = VolFSettings.from_mapping({"partner": "other", "turned": False, "intensity": True})
        fusion = VolumeFusion(settings, given_on(patch, args.channels))
        sampler = replace(fusion.sampler(training=True), finish=DownsampleSegForDSTransform(SCALES))
        samples, parcels = (kind(cases, BATCH, sampler) for kind in (SampleLoader, ParcelLoader))
        make = BatchMaker(sampler, BATCH, device)

        candidates: dict[str, Callable[[], object]] = {
            WHOLE: lambda: handed_over(samples),
            "crops as float16": lambda: handed_over(parcels),
            "crops as float32": lambda: exactly(lambda: handed_over(parcels)),
            "crops, not handed over": lambda: list(parcels.collect()),
        }
        in_turns = {title: in_turn(call) for title, call in candidates.items()}
        rows = side_by_side(in_turns, WHOLE, args.rounds, process_time)
        crops = np.mean([handed_over(parcels) for _ in range(20)])
        typical, largest = rounding(samples, parcels, make)
        print(conditions())
        print_table(
            f"What a worker does for a batch of {BATCH}, patch {patch}, {args.channels} channel(s)", rows, WHOLE
        )
        print(
            f"\nA batch is {handed_over(samples) / 1e6:.1f} MB, its crops as float16 {crops / 1e6:.1f} MB on average."
        )
        print(f"Rounding the crops changes a voxel by {typical:.1e} (root mean square), {largest:.1e} at most.")
        if device.type == "cuda":
            print_table(
                "Making the batch, beside a worker that also reads", on_gpu(samples, parcels, make, args), WHOLE
            )


def on_gpu(samples: SampleLoader, parcels: ParcelLoader, make: BatchMaker, args: argparse.Namespace) -> list[Timed]:
    """Time what is left to a GPU."""
    turns = cycle([next(parcels) for _ in range(4)])

    def made() -> None:
        make(next(turns))
        torch.cuda.synchronize()

    return side_by_side({WHOLE: lambda: next(samples), "the GPU": made}, WHOLE, args.rounds)


if __name__ == "__main__":
    main()
