"""The line that says how long a training still takes."""

from __future__ import annotations

import pytest

from nnunet_volf.progress import describe_progress, readable_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (750, "12 min"),
        (3599, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (86_390, "1 d 0 h"),
        (187_000, "2 d 4 h"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert readable_time(seconds) == text


def test_the_estimate_is_the_median_of_the_last_epochs_times_those_left() -> None:
    durations = [900.0, 60.0, 61.0, 59.0, 60.0, 300.0]  # the first compiled, the last shared the machine
    assert describe_progress(durations, 10, waited=3.0) == "About 10 min left. Waited for data during 1% of the epoch."


def test_what_a_step_took_and_how_much_the_gpu_worked_is_said_where_it_is_known() -> None:
    text = describe_progress([100.0], 1, waited=3.0, step=0.2134, gpu=0.93)
    assert text.endswith("during 3% of the epoch; a step took 0.213 s; the GPU worked 93% of the time.")


def test_much_waiting_comes_with_what_would_help() -> None:
    text = describe_progress([100.0], 1, waited=40.0, faster=["more loader workers", "reuse_crops=true"])
    assert "during 40% of the epoch. Batches would come faster with more loader workers or reuse_crops=true." in text


def test_where_nothing_is_left_to_set_that_is_said() -> None:
    assert "No setting would make batches come faster" in describe_progress([100.0], 1, waited=40.0)


def test_little_waiting_comes_without_advice() -> None:
    assert "faster" not in describe_progress([100.0], 1, waited=10.0, faster=["more loader workers"])


def test_after_the_last_epoch_nothing_is_left() -> None:
    assert describe_progress([100.0], 0, waited=0.0).startswith("Last epoch.")
