"""Reach a Dask cluster, or start one on this machine."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_volf.errors import ClusterError

LOCAL = "local"
_PATIENCE = "10s"  # for a scheduler to answer

# What a scheduler that is not there, or no longer, comes to; the second is a class of its own until Python 3.11.
UNREACHABLE = (OSError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers, by the name that the user gave it."""

    name: str
    client: Any  # of distributed, which is typed in part

    def __str__(self) -> str:
        """Say what works there."""
        return f"{len(self.client.nthreads()) or 'none yet'} on Dask ({self.name})"

    def tell(self, text: str) -> None:
        """Tell the user something meanwhile, above the bar where one is shown."""
        tqdm.write(f"Dask ({self.name}): {text}", file=sys.stderr)


@contextmanager
def connected(asked: str, workers: int) -> Iterator[Cluster]:
    """Give a cluster to work on: that of an address or a scheduler's file, or a new one of some workers here."""
    dask = _distributed()
    if asked != LOCAL:
        with _client(dask, asked) as client:
            yield Cluster(asked, client)
        return
    with (
        # Memory is kept by what items are known to need; Dask itself would see only its own process and not ours.
        dask.LocalCluster(
            n_workers=max(1, workers),
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as here,
        dask.Client(here, set_as_default=False) as client,
    ):
        yield Cluster(asked, client)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ClusterError("--dask needs dask.distributed: pip install 'nnunet-volf[dask]'.") from error
    return distributed


def _client(dask: Any, asked: str) -> Any:
    file = Path(asked)
    if file.suffix == ".json" and not file.is_file():  # which Dask would wait for
        raise ClusterError(f"--dask {asked}: there is no such file. A scheduler writes it: --scheduler-file {asked}.")
    place = {"scheduler_file": asked} if file.is_file() else {"address": asked}
    try:
        return dask.Client(**place, timeout=_PATIENCE, set_as_default=False)
    except (*UNREACHABLE, ValueError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {asked} ({error}). Start one, or name its file; --dask {LOCAL} starts one "
            "with workers on this machine."
        ) from error
