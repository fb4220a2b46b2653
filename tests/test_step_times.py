"""The stop watch that lies beside an epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from nnunet_volf.step_times import StepTimes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def clock(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    """Have each look at the clock find the next of these times."""
    ticks = iter(times)
    monkeypatch.setattr("nnunet_volf.step_times.perf_counter", lambda: next(ticks))


def driver(monkeypatch: pytest.MonkeyPatch, answers: Iterable[int | Exception]) -> list[Any]:
    """Have the driver give these answers; return the devices it is asked about."""
    asked, left = [], iter(answers)

    def utilization(device: Any) -> int:
        asked.append(device)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    return asked


def test_waiting_adds_up_also_where_it_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 0.0, 2.0, 10.0, 13.0)
    times = StepTimes(CPU)
    with times.waiting():
        pass
    with pytest.raises(RuntimeError), times.waiting():
        raise RuntimeError
    assert times.waited == 5.0


def test_a_typical_step_is_the_median_and_the_first_which_compiled_counts_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock(monkeypatch, 0.0, 60.0, 60.0, 61.0, 61.0, 64.0)
    times = StepTimes(CPU)
    assert times.median_step is None
    for _ in range(3):
        with times.step():
            pass
    assert times.median_step == 3.0


def test_a_step_that_is_broken_off_does_not_count() -> None:
    times = StepTimes(CPU)
    with pytest.raises(RuntimeError), times.step():
        raise RuntimeError
    assert times.median_step is None


def test_the_driver_is_asked_once_a_second_at_most_and_its_answers_are_averaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([tenth / 10 for tenth in range(100)])  # every look at the clock finds a tenth of a second gone
    monkeypatch.setattr("nnunet_volf.step_times.perf_counter", lambda: next(seconds))
    asked = driver(monkeypatch, [80, 100])
    times = StepTimes(GPU)
    for _ in range(8):
        with times.step():
            pass
    assert asked == [GPU, GPU]
    assert times.gpu_share == pytest.approx(0.9)


@pytest.mark.parametrize("problem", [ModuleNotFoundError("pynvml"), RuntimeError("not supported")])
def test_a_driver_that_does_not_tell_is_asked_once(monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr("nnunet_volf.step_times.perf_counter", lambda: float(next(seconds)))
    asked = driver(monkeypatch, [problem])
    times = StepTimes(GPU)
    for _ in range(5):
        with times.step():
            pass
    assert len(asked) == 1
    assert times.gpu_share is None


def test_without_a_gpu_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr("nnunet_volf.step_times.perf_counter", lambda: float(next(seconds)))
    asked = driver(monkeypatch, [])
    times = StepTimes(CPU)
    for _ in range(5):
        with times.step():
            pass
    assert not asked
    assert times.gpu_share is None
