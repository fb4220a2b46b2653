"""Loader processes, threads and precision: what the user chose, or what the CPUs allow."""

from __future__ import annotations

import pytest
import torch

from nnunet_volf import cpu_use, machine
from nnunet_volf.machine import Limit


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: Limit(4, "container quota (cgroup v2)"))
    for name in ("nnUNet_n_proc_DA", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(
    ("device", "gpus", "processes"), [("cpu", 1, 1), ("cuda", 1, 3), ("cuda", 2, 1), ("mps", 1, 3)]
)
def test_loaders_leave_the_network_a_cpu(device: str, gpus: int, processes: int) -> None:
    assert cpu_use.loader_processes(device, gpus, nnunets=12) == processes


@pytest.mark.usefixtures("four_cpus")
def test_no_more_loaders_than_nnunet_has() -> None:
    assert cpu_use.loader_processes("cuda", 1, nnunets=2) == 2


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_number_of_loaders_that_the_user_chose_stays(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "7")
    assert cpu_use.loader_processes(device, 1, nnunets=7) == 7


@pytest.mark.usefixtures("four_cpus")
def test_a_network_has_no_more_threads_than_there_are_cpus() -> None:
    assert cpu_use.network_threads(64) == 4
    assert cpu_use.network_threads(2) == 2


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(("chosen", "threads"), [("6", 6), ("1", 1), ("3,2", 3)])
def test_a_number_of_threads_that_the_user_chose_holds_whatever_nnunet_told_torch(
    chosen: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    assert cpu_use.network_threads(4) == threads


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize("chosen", ["", "0", "many"])
def test_a_number_of_threads_that_openmp_would_not_understand_is_no_choice(
    chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    assert cpu_use.network_threads(64) == 4


@pytest.mark.parametrize(
    ("asked", "able", "halves"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("float32", True, False),
        ("bfloat16", False, True),
    ],
)
def test_halves_are_for_cpus_that_compute_with_them_and_for_who_asks(
    asked: str, able: bool, halves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "computes_bfloat16", lambda: able)
    assert cpu_use.halves_pay(asked) is halves


def test_a_network_on_a_gpu_is_left_as_it_is() -> None:
    network = torch.nn.Linear(2, 2)
    cpu_use.fit_network(network, "cuda", "bfloat16")
    assert network(torch.ones(1, 2)).dtype is torch.float32
    assert "forward" not in vars(network)
