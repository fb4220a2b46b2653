"""What this process may really use: the scheduler and the container know, ``os.cpu_count()`` does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_volf.errors import SettingsError

MOST_WORKERS = 12  # nnU-Net's own default; more rarely helps one GPU
_ROOT = Path("/")
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 where v2 writes "max"


@dataclass(frozen=True)
class Limit:
    """A number and who sets it."""

    value: int
    source: str


def usable_cpus(environ: Mapping[str, str] = os.environ, root: Path = _ROOT, affinity: int | None = None) -> Limit:
    """Return the number of CPUs this process may keep busy: the smallest of all limits on it."""
    limits = [_scheduled_cpus() if affinity is None else Limit(affinity, "CPU affinity")]
    limits += _cgroup_cpus(root)
    for variable in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        value = environ.get(variable, "")
        if value.isdecimal() and int(value) > 0:
            limits.append(Limit(int(value), variable))
    return min(limits, key=lambda limit: limit.value)


def worker_processes(asked: int | None) -> Limit:
    """Return how many worker processes to use: as many as asked for (0: none beside this one), or as there are CPUs."""
    if asked is None:
        return usable_cpus()
    if asked < 0:
        raise SettingsError(f"-np is {asked}; it is the number of worker processes, or 0 for none beside this one.")
    return Limit(asked, "-np")


def usable_memory(root: Path = _ROOT, installed: int | None = None) -> Limit | None:
    """Return the memory in bytes that this process may use, or None where the system does not tell."""
    limits = list(_cgroup_memory(root))
    installed = _installed_memory() if installed is None else installed
    if installed is not None:
        limits.append(Limit(installed, "installed memory"))
    return min(limits, key=lambda limit: limit.value, default=None)


def available_memory(root: Path = _ROOT) -> int | None:
    """Return the memory in bytes that new processes could take now without swapping, or None where nobody tells."""
    fields = dict(line.split(":", 1) for line in _read(root / "proc" / "meminfo").splitlines() if ":" in line)
    free = fields.get("MemAvailable", "").strip().removesuffix(" kB")
    limits = [limit.value for limit in (usable_memory(root),) if limit is not None]
    limits += [int(free) * 1024] if free.isdecimal() else []
    return min(limits, default=None)


def free_shared_memory(root: Path = _ROOT) -> int | None:
    """Return the free bytes of /dev/shm, through which loader workers hand over batches; None without one."""
    folder = root / "dev" / "shm"
    return shutil.disk_usage(folder).free if folder.is_dir() else None


def open_file_limits() -> tuple[int, int] | None:
    """Return how many files a process may have open, as (soft, hard) limits; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    soft, hard = (_finite(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    return soft, hard


def computes_bfloat16(root: Path = _ROOT) -> bool:
    """Return whether the CPU has instructions for products of bfloat16 that torch makes use of; Linux on x86 tells."""
    lines = (line.split(":", 1) for line in _read(root / "proc" / "cpuinfo").splitlines() if ":" in line)
    flags = next((value.split() for name, value in lines if name.strip() == "flags"), [])
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(flags)


def suggested_workers(cpus: int, gpus: int = 1) -> int:
    """Return a value for ``nnUNet_n_proc_DA``, which counts per GPU; each training process keeps a CPU."""
    return max(1, min(MOST_WORKERS, cpus // max(1, gpus) - 1))


def _scheduled_cpus() -> Limit:
    if hasattr(os, "sched_getaffinity"):
        return Limit(len(os.sched_getaffinity(0)), "CPU affinity")
    return Limit(os.cpu_count() or 1, "installed CPUs")


def _installed_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _finite(limit: int) -> int:
    """Return a resource limit, with -1 for no limit replaced by a number that compares as large."""
    return limit if limit >= 0 else _UNLIMITED


def _cgroup_cpus(root: Path) -> Iterator[Limit]:
    for folder in _cgroup_folders(root, ""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        yield from _cpu_quota(quota, period, "container quota (cgroup v2)")
    for folder in _cgroup_folders(root, "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        yield from _cpu_quota(quota, period, "container quota (cgroup v1)")


def _cpu_quota(quota: str, period: str, source: str) -> Iterator[Limit]:
    """Yield a quota of CPU time a period as whole CPUs; "max" and -1 mean that there is none."""
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        yield Limit(max(1, int(quota) // int(period)), source)


def _cgroup_memory(root: Path) -> Iterator[Limit]:
    for controller, file, version in (("", "memory.max", "v2"), ("memory", "memory.limit_in_bytes", "v1")):
        for folder in _cgroup_folders(root, controller):
            value = _read(folder / file)
            if value.isdecimal() and int(value) < _UNLIMITED:
                yield Limit(int(value), f"container limit (cgroup {version})")


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of our control group and of those above it, of a v1 controller or of v2 ("")."""
    mount = root / "sys" / "fs" / "cgroup" / controller
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controller in controllers.split(","):
            inner = mount / group.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _read(file: Path) -> str:
    """Return the stripped text of a file, or nothing where it cannot be read."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
