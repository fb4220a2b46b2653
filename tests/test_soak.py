"""The verdict of the soak: planted leaks are seen, and what comes and goes is not taken for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

SECONDS = np.arange(0, 3600, 10.0)


@pytest.fixture(autouse=True, scope="module")
def scripts() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        yield


def judge(values: Any, **options: float) -> Any:
    from flatness import judge

    return judge(SECONDS.tolist(), np.asarray(values, dtype=float).tolist(), **options)


def noise(size: float, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, size, len(SECONDS))


def test_a_level_with_noise_is_flat() -> None:
    assert judge(1000 + noise(30)).flat


def test_a_leak_of_a_twentieth_within_the_noise_is_seen() -> None:
    found = judge(1000 + SECONDS / 3600 * 50 + noise(30))
    assert not found.flat
    assert found.hourly == pytest.approx(50, rel=0.3)


def test_a_saw_tooth_is_flat_and_a_rising_one_is_not() -> None:
    teeth = 1000 + 200 * (SECONDS % 300) / 300
    assert judge(teeth).flat
    assert not judge(teeth + SECONDS / 3600 * 60).flat


def test_a_step_is_flat_and_stairs_are_not() -> None:
    assert judge(1000 + 200 * (SECONDS > 1700) + noise(1)).flat
    assert not judge(1000 + 20 * (SECONDS // 600) + noise(1)).flat


def test_what_happens_in_the_warm_up_does_not_count() -> None:
    values = 1000 + np.minimum(SECONDS, 900)
    assert judge(values, warm_up=900).flat
    assert not judge(values).flat or judge(values).growth < 20


def test_one_open_file_more_every_ten_minutes_is_seen() -> None:
    assert not judge(60 + SECONDS // 600, floor=0.5).flat
    assert judge(60 + (SECONDS % 70 == 0) * 3, floor=0.5).flat


def test_a_floor_is_for_levels_near_nothing() -> None:
    assert not judge(SECONDS / 3600).flat
    assert judge(SECONDS / 3600, floor=1.5).flat


@given(st.floats(0, 1e9), st.floats(0, 1e6))
def test_what_falls_is_never_taken_for_a_leak(level: float, drop: float) -> None:
    assert judge(level + drop * (3600 - SECONDS)).flat


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match=r"0 samples after 4000 s of warm-up"):
        judge(SECONDS, warm_up=4000)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_a_process_and_its_children_hold_is_seen(tmp_path: Path) -> None:
    from process_tree import held_by

    held = "import mmap, sys; m = bytearray(50_000_000); f = [open(sys.argv[1], 'w') for _ in range(20)]; "
    wait = "print('ready', flush=True); sys.stdin.read()"
    inner = (
        f"import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', {held + wait!r}, sys.argv[1]]); c.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", inner, str(tmp_path / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = held_by(process.pid)
        process.communicate()
    assert found.processes == 2
    assert 50e6 < found.memory < 150e6
    assert 26 <= found.files < 40
    assert found.threads == 2
    assert found.shared == 0


@pytest.mark.weekly
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_soak_runs(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "soak.py"
    options = ["--minutes", "0.7", "--warm-up", "0.3", "--every", "1", "-o", str(tmp_path / "soak")]
    command = [sys.executable, "-W", "ignore", str(script), *options, "--set", "iterations=5", "panel_every=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "| open files |" in done.stdout, done.stdout + done.stderr
    assert "ended with code 75, 75 expected" in done.stdout
    assert len((tmp_path / "soak.csv").read_text().splitlines()) > 15
