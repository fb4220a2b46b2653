"""Whether the workers of a cluster can do the work: the same packages, and the same files by the same paths."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnunet_volf.errors import ClusterError
from nnunet_volf.machine import available_memory

_PACKAGES = ("nnunet-volf", "nnunetv2")  # of which the same release does the same
_NAMED = 5


@dataclass(frozen=True)
class Needs:
    """What a worker reads and writes."""

    folder: Path  # where it writes; made if it is not there
    inputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Marker:
    """A file that a worker finds only where it sees the same folder, and the versions that it should have."""

    file: Path
    text: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """What a worker found when it looked around."""

    host: str
    machine: str  # what shares memory: the host, or a job or container on it
    limit: int | None  # bytes that Dask was told the worker may use
    available: int | None  # bytes that were free on the machine
    problem: str = ""


@contextmanager
def marked(needs: Needs) -> Iterator[Marker]:
    """Leave a marker in the folder that all workers should see, as long as work goes on."""
    needs.folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    marker = Marker(needs.folder / f".seen-by-workers-{token}", token, _versions())
    marker.file.write_text(token, encoding="ascii")
    try:
        yield marker
    finally:
        marker.file.unlink(missing_ok=True)


def look_around(needs: Needs, marker: Marker, dask_worker: Any = None) -> Seen:
    """Tell, on a worker, what it has; Dask hands over the worker itself."""
    limit = None if dask_worker is None else dask_worker.memory_manager.memory_limit
    host = socket.gethostname()
    return Seen(host, f"{host} {_control_group()}", limit, available_memory(), _problem(needs, marker))


def inspected(client: Any, addresses: Sequence[str], needs: Needs, marker: Marker) -> dict[str, Seen]:
    """Have workers look around; those that went away meanwhile are left out."""
    answers = client.run(look_around, needs, marker, workers=list(addresses), on_error="return")
    return {
        address: _not_even_that(answer) if isinstance(answer, Exception) else answer
        for address, answer in answers.items()
        if not isinstance(answer, OSError)
    }


def require_all(seen: Mapping[str, Seen], name: str) -> None:
    """Refuse a cluster of which some workers cannot do the work: their share of it would fail."""
    unfit = [describe(address, worker) for address, worker in sorted(seen.items()) if worker.problem]
    if not unfit:
        return
    more = f"\n  and {len(unfit) - _NAMED} more" if len(unfit) > _NAMED else ""
    lines = "".join(f"\n  {line}" for line in unfit[:_NAMED])
    raise ClusterError(
        f"{len(unfit)} of the {len(seen)} Dask workers at {name} cannot do this:{lines}{more}\nAll need the same "
        "versions, and see the same files by the same paths. Nothing was begun."
    )


def describe(address: str, worker: Seen) -> str:
    """Name a worker and say what is wrong with it."""
    host = f" on {worker.host}" if worker.host else ""
    return f"{address}{host}: {worker.problem}"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _problem(needs: Needs, marker: Marker) -> str:
    here = _versions()
    for package, wanted in marker.versions.items():
        if here[package] != wanted:
            return f"has {package} {here[package]}, and this command {wanted}"
    try:
        same = marker.file.read_text(encoding="ascii") == marker.text
    except OSError:
        same = False
    if not same:
        return f"does not see {needs.folder} as this command does"
    probe = marker.file.with_name(f"{marker.file.name}-{secrets.token_hex(4)}")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"cannot write into {needs.folder} ({error.strerror})"
    lacking = [path for path in needs.inputs if not path.exists()]
    return f"does not see {lacking[0]}" if lacking else ""


def _not_even_that(error: Exception) -> Seen:
    lacking = "No module named" in str(error)  # a worker only tells the text of what failed before it began
    problem = f"cannot import nnunet_volf ({error}); install it there" if lacking else f"cannot look around ({error})"
    return Seen("", "", None, None, problem)


def _control_group() -> str:
    """Return the control group of this process, within which memory is limited; nothing where there are none."""
    try:
        return Path("/proc/self/cgroup").read_text().strip()
    except OSError:
        return ""
