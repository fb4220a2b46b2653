"""What a process may use, with the files of schedulers and containers made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnunet_volf import machine
from nnunet_volf.machine import Limit

V1_UNLIMITED = "9223372036854771712"


def control_group(root: Path, line: str, files: dict[str, str]) -> Path:
    """Write the line that names our control group, and the files of the groups, below a made-up root."""
    for name, content in {
        "proc/self/cgroup": line,
        **{f"sys/fs/cgroup/{k}": v for k, v in files.items()},
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return root


def test_without_a_container_or_scheduler_the_affinity_counts(tmp_path: Path) -> None:
    assert machine.usable_cpus({}, tmp_path, affinity=8) == Limit(8, "CPU affinity")


def test_a_cgroup_v2_quota_counts(tmp_path: Path) -> None:
    root = control_group(tmp_path, "0::/", {"cpu.max": "300000 100000"})
    assert machine.usable_cpus({}, root, affinity=8) == Limit(3, "container quota (cgroup v2)")


def test_a_quota_on_a_group_above_ours_counts(tmp_path: Path) -> None:
    root = control_group(tmp_path, "0::/pod/main", {"pod/main/cpu.max": "max 100000", "pod/cpu.max": "200000 100000"})
    assert machine.usable_cpus({}, root, affinity=8).value == 2


def test_a_cgroup_v1_quota_counts(tmp_path: Path) -> None:
    root = control_group(
        tmp_path,
        "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc",
        {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"},
    )
    assert machine.usable_cpus({}, root, affinity=8) == Limit(4, "container quota (cgroup v1)")


@pytest.mark.parametrize(("quota", "cpus"), [("max 100000", 8), ("50000 100000", 1), ("nonsense", 8)])
def test_a_quota_is_at_least_one_cpu_and_may_be_absent(quota: str, cpus: int, tmp_path: Path) -> None:
    root = control_group(tmp_path, "0::/", {"cpu.max": quota})
    assert machine.usable_cpus({}, root, affinity=8).value == cpus


def test_minus_one_is_no_quota_in_cgroup_v1(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    root = control_group(tmp_path, "4:cpu,cpuacct:/", files)
    assert machine.usable_cpus({}, root, affinity=8).value == 8


@pytest.mark.parametrize("variable", ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"])
def test_what_slurm_grants_counts(variable: str, tmp_path: Path) -> None:
    assert machine.usable_cpus({variable: "6"}, tmp_path, affinity=64) == Limit(6, variable)


@pytest.mark.parametrize("value", ["", "0", "4(x2)", "-3"])
def test_a_slurm_variable_that_is_no_number_is_ignored(value: str, tmp_path: Path) -> None:
    assert machine.usable_cpus({"SLURM_CPUS_ON_NODE": value}, tmp_path, affinity=64).value == 64


def test_the_smallest_limit_wins(tmp_path: Path) -> None:
    root = control_group(tmp_path, "0::/", {"cpu.max": "500000 100000"})
    assert machine.usable_cpus({"SLURM_CPUS_PER_TASK": "4"}, root, affinity=8).source == "SLURM_CPUS_PER_TASK"


def test_systems_without_affinity_count_installed_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert machine.usable_cpus({}, tmp_path) == Limit(10, "installed CPUs")


def test_a_memory_limit_of_a_container_counts(tmp_path: Path) -> None:
    root = control_group(tmp_path, "0::/", {"memory.max": "8000"})
    assert machine.usable_memory(root, installed=64000) == Limit(8000, "container limit (cgroup v2)")


def test_a_memory_limit_of_cgroup_v1_counts(tmp_path: Path) -> None:
    root = control_group(tmp_path, "3:memory:/", {"memory/memory.limit_in_bytes": "8000"})
    assert machine.usable_memory(root, installed=64000) == Limit(8000, "container limit (cgroup v1)")


@pytest.mark.parametrize(
    ("line", "file", "value"),
    [("0::/", "memory.max", "max"), ("3:memory:/", "memory/memory.limit_in_bytes", V1_UNLIMITED)],
)
def test_no_limit_leaves_the_installed_memory(line: str, file: str, value: str, tmp_path: Path) -> None:
    root = control_group(tmp_path, line, {file: value})
    assert machine.usable_memory(root, installed=64000) == Limit(64000, "installed memory")


def test_unknown_memory_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert machine.usable_memory(tmp_path) is None


def test_available_memory_is_what_linux_tells_within_the_limit(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  1000 kB\nHugePages_Total: 0\n")
    assert machine.available_memory(tmp_path) == 1000 * 1024
    (tmp_path / "proc" / "meminfo").write_text(f"MemAvailable: {1 << 50} kB\n")
    assert machine.available_memory(tmp_path) == machine.usable_memory(tmp_path).value  # type: ignore[union-attr]


def test_shared_memory_is_none_without_its_folder(tmp_path: Path) -> None:
    assert machine.free_shared_memory(tmp_path) is None


def test_free_shared_memory_is_told_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "dev/shm").mkdir(parents=True)
    free = machine.free_shared_memory(tmp_path)
    assert free is not None
    assert free > 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits")
def test_no_limit_on_open_files_compares_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1024, resource.RLIM_INFINITY))
    limits = machine.open_file_limits()
    assert limits is not None
    assert limits[0] == 1024
    assert limits[1] > 1 << 30


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers"), [(1, 0, 1), (2, 1, 1), (8, 1, 7), (64, 1, 12), (16, 4, 3), (2, 8, 1)]
)
def test_each_training_process_keeps_a_cpu_and_has_at_most_twelve_workers(cpus: int, gpus: int, workers: int) -> None:
    assert machine.suggested_workers(cpus, gpus) == workers


@pytest.mark.parametrize(
    ("cpuinfo", "computes"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16", True),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni", False),
        ("processor\t: 0\nmodel name\t: avx512_bf16: no", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16", False),  # ARM, where nobody has measured it
    ],
)
def test_a_cpu_computes_bfloat16_where_its_flags_say_so(cpuinfo: str, computes: bool, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(cpuinfo + "\n")
    assert machine.computes_bfloat16(tmp_path) is computes


def test_a_system_without_cpuinfo_computes_in_float32(tmp_path: Path) -> None:
    assert not machine.computes_bfloat16(tmp_path)
