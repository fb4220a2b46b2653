"""Where the time of preprocessing goes."""

from __future__ import annotations

import pytest

from nnunet_volf.preprocessing import stages as module
from nnunet_volf.preprocessing.stages import READ, RESAMPLE, STAGES, VERIFY, Stopwatch, shares


def test_a_stage_that_is_entered_twice_adds_up_and_errors_do_not_lose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 20.0, 20.5, 30.0, 31.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    with watch.during(READ):
        pass
    with watch.during(VERIFY):
        pass
    with pytest.raises(ValueError, match="broken"), watch.during(READ):
        raise ValueError("broken")
    assert watch.seconds == {READ: 3.0, VERIFY: 0.5}


def test_shares_are_of_the_time_of_all_cases_in_the_order_of_the_work() -> None:
    found = shares([{VERIFY: 1.0, READ: 2.0}, {READ: 3.0, RESAMPLE: 2.0}])
    assert list(found.items()) == [(READ, 0.625), (RESAMPLE, 0.25), (VERIFY, 0.125)]
    assert list(found) == [stage for stage in STAGES if stage in found]


def test_no_cases_have_no_shares() -> None:
    assert shares([]) == {}
