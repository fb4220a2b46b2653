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


def test_much_waiting_comes_with_advice() -> None:
    text = describe_progress([100.0], 1, waited=40.0)
    assert "Waited for data during 40% of the epoch: more loader workers (nnUNet_n_proc_DA)" in text


def test_after_the_last_epoch_nothing_is_left() -> None:
    assert describe_progress([100.0], 0, waited=0.0).startswith("Last epoch.")


@pytest.mark.parametrize("could", [True, False])
def test_reusing_crops_is_advised_only_to_who_could(could: bool) -> None:
    assert ("reuse_crops=true" in describe_progress([100.0], 1, 40.0, could_reuse_crops=could)) is could
