"""Agreement between the processes of a distributed training; without one, each function is what one process needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist

_ALONE = ContextVar("alone", default=False)


@dataclass(frozen=True)
class Place:
    """Which process of a training this is, as torchrun tells it."""

    rank: int  # over all machines
    local_rank: int  # on this machine: the number of its GPU
    ranks: int
    local_ranks: int
    restarts: int = 0  # of the processes of this machine, after one of them had failed
    run: str = ""  # --rdzv-id, or what torchrun made up

    @classmethod
    def told_by(cls, environ: Mapping[str, str]) -> Place | None:
        """Return the place that the environment tells, or None where nothing like torchrun started the process."""
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        if not all(name in environ for name in names):
            return None
        rank, local_rank, ranks, local_ranks = (int(environ[name]) for name in names)
        run = environ.get("TORCHELASTIC_RUN_ID", "")
        restarts = int(environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        return cls(rank, local_rank, ranks, local_ranks, restarts, "" if run == "none" else run)


def in_company() -> bool:
    """Say whether there are other processes to agree with, and this is a moment when all of them do."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 and not _ALONE.get()


@contextmanager
def alone() -> Iterator[None]:
    """Compute what only this process computes: nothing within waits for the others."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def highest(value: int, device: torch.device) -> int:
    """Return the highest of the numbers that the ranks have; all of them call this."""
    if not in_company():
        return value
    shared = torch.tensor(value, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def any_rank(flag: bool, device: torch.device) -> bool:
    """Say whether the flag is set on any rank; without distributed training, whether it is set."""
    return bool(highest(int(flag), device))


def of_all_ranks(value: Any) -> list[Any]:
    """Return the values of all ranks, by rank; all of them call this."""
    if not in_company():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Wait until every rank has come here."""
    if in_company():
        dist.barrier()


@contextmanager
def makers_first() -> Iterator[None]:
    """Let rank 0 go first, then the first rank of each other machine, then the rest.

    What is done within makes a file where there is none, so the others find it: in a folder that all machines share,
    or in one that each machine has for itself.
    """
    place = Place.told_by(os.environ)
    rank = dist.get_rank() if in_company() else 0
    turn = 0 if rank == 0 else 1 if place is not None and place.local_rank == 0 else 2
    for _ in range(turn):
        wait_for_all()
    yield
    for _ in range(2 - turn):
        wait_for_all()


def ranks_on_this_machine() -> int:
    """Return how many processes share this machine's CPUs; those that nnU-Net starts itself are all on one."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    place = Place.told_by(os.environ)
    return dist.get_world_size() if place is None else place.local_ranks
