"""A real Dask cluster on loopback, scheduler and workers as processes of their own, to be killed by tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import wait_until

TESTS = Path(__file__).parent
_START = "import sys; sys.path = [f for f in sys.path if f]; from distributed.cli.dask_{0} import main; main()"


@dataclass
class DaskCluster:
    """Where its scheduler is, and the processes that were started."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    @property
    def address(self) -> str:
        return json.loads(self.file.read_text())["address"]

    @contextmanager
    def client(self) -> Iterator[Any]:
        from distributed import Client

        with Client(self.address, timeout="20s", set_as_default=False) as client:
            yield client

    def workers(self) -> dict[str, int]:
        """Addresses and pids of the workers that are there."""
        with self.client() as client:
            return client.run(os.getpid)

    def add_worker(self, *options: str, before: tuple[str, ...] = (), start: str = "", **variables: str) -> Any:
        """Start a worker of one thread, with a nanny unless the options say otherwise."""
        arguments = ["--scheduler-file", str(self.file), "--nthreads", "1", "--local-directory", str(self.folder)]
        return self._start("worker", *arguments, *options, before=before, start=start, **variables)

    def start_scheduler(self) -> Any:
        """Start a scheduler, which may lack our package: it often runs elsewhere than the workers."""
        arguments = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file)]
        scheduler = self._start("scheduler", *arguments, start="import sys; sys.modules['nnunet_volf'] = None; ")
        assert wait_until(self.file.is_file, 60), self.log()
        return scheduler

    def wait_for(self, workers: int) -> None:
        with self.client() as client:
            client.wait_for_workers(workers, timeout=120)

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def stop(self) -> None:
        """End all at once: workers end with their nannies, and their processes with them."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(20)

    def _start(
        self, what: str, *arguments: str, before: tuple[str, ...] = (), start: str = "", **variables: str
    ) -> Any:
        found = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": found, **variables}
        command = [*before, sys.executable, "-c", start + _START.format(what), *arguments, "--no-dashboard"]
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        self.processes.append(process)
        return process


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[DaskCluster]:
    """Start a cluster, and leave nothing of it."""
    cluster = DaskCluster(folder)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.add_worker()
        if workers:
            cluster.wait_for(workers)
        yield cluster
    finally:
        cluster.stop()
