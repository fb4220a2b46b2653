"""What a training makes of the CPUs it may use: loader processes, threads of the network, and their precision.

nnU-Net counts installed CPUs, and torch takes a thread for each; in a container or a job that has only a part of a
machine, each CPU would be fought for by many.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nnunet_volf import machine

if TYPE_CHECKING:
    from torch import nn

CPU_PRECISIONS = ("auto", "float32", "bfloat16")

# Where the network has no GPU, its steps take so much longer than batches that one process keeps up with it.
LOADERS_BESIDE_A_CPU_NETWORK = 1


def loader_processes(device_type: str, gpus: int, nnunets: int) -> int:
    """Return how many loader processes each training process gets: nnU-Net's number where the user chose it."""
    if "nnUNet_n_proc_DA" in os.environ:
        return nnunets
    if device_type == "cpu":
        return LOADERS_BESIDE_A_CPU_NETWORK
    return with_a_cpu_each(nnunets, gpus)


def with_a_cpu_each(workers: int, gpus: int) -> int:
    """Return how many of so many loader processes for each GPU can have a CPU of their own."""
    return min(workers, machine.suggested_workers(machine.usable_cpus().value, gpus))


def fit_network(network: nn.Module, device_type: str, cpu_precision: str) -> None:
    """Have a network that is on the CPU compute there as fast as it can; leave one on a GPU as it is."""
    if device_type != "cpu":
        return
    import torch  # settings are read where torch is not loaded

    from nnunet_volf.precision import compute_in_halves_on_cpu

    torch.set_num_threads(network_threads(torch.get_num_threads()))
    if halves_pay(cpu_precision):
        compute_in_halves_on_cpu(network)


def network_threads(torchs: int) -> int:
    """Return how many threads a network on the CPU gets, of as many as torch has now.

    A number that the user chose is taken from where it was chosen: `nnUNetv2_train -device cpu` has by then told torch
    to take every CPU. Two trainings with both CPUs each took 2 s a step where one thread each takes 0.3 s.
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" is 4, and 2 within each of these
    return int(chosen) if chosen.isdecimal() and int(chosen) else min(torchs, machine.usable_cpus().value)


def halves_pay(cpu_precision: str) -> bool:
    """Return whether a network is to compute in bfloat16 on this CPU.

    Without instructions for it bfloat16 is emulated, and a step takes two to three times as long (docs/benchmarks.md);
    so "auto" asks the CPU.
    """
    return cpu_precision == "bfloat16" or (cpu_precision == "auto" and machine.computes_bfloat16())
