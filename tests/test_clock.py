"""A clock that is set while something runs: nothing is timed by it that must not run backwards, or end too early."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import parallel_tasks
import pytest
import tqdm
from conftest import NnUNetFolders
from training import make_trainer, with_settings

from nnunet_volf.preprocessing.parallel import run_parallel
from nnunet_volf.preprocessing.progress import show

DAY, YEAR = 86_400.0, 365 * 86_400.0
JUMPS = pytest.mark.parametrize("jump", [-DAY, YEAR], ids=["back a day", "on a year"])


@JUMPS
@pytest.mark.usefixtures("no_curves")
def test_a_training_tells_the_time_left_and_saves_as_ever(
    jump: float, phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(with_settings(epochs=4))
    step, real, ahead = trainer.train_step, time.time, 0.0
    for module in ("nnunetv2.training.nnUNetTrainer.nnUNetTrainer", "nnunet_volf.durable"):
        monkeypatch.setattr(f"{module}.time", lambda: real() + ahead)

    def set_the_clock(batch: dict[str, Any]) -> Any:
        nonlocal ahead
        ahead += jump if (trainer.current_epoch, trainer.iteration) == (1, 1) else 0
        return step(batch)

    trainer.train_step = set_the_clock
    saved = []
    save = trainer.save_checkpoint
    monkeypatch.setattr(trainer, "save_checkpoint", lambda path: (saved.append(Path(path).name), save(path)))
    trainer.run_training()
    starts, ends = (trainer.logger.get_value(f"epoch_{when}_timestamps", step=None) for when in ("start", "end"))
    durations = [end - start for start, end in zip(starts, ends, strict=True)]
    assert min(durations) > 0
    assert max(durations) < 600
    left = [line for line in capsys.readouterr().out.splitlines() if "left." in line]
    assert len(left) == 3
    assert not any("-" in line.split("About")[1].split("left")[0] or " d " in line for line in left)
    assert saved.count("checkpoint_latest.pth") == 3


@JUMPS
def test_the_bar_of_a_long_command_goes_on(
    jump: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, ahead = time.time, 0.0
    monkeypatch.setattr(tqdm.std, "time", lambda: real() + ahead)
    for number in show(range(4), 4, "Looking"):
        time.sleep(0.12)  # it is drawn anew every tenth of a second
        ahead = jump if number == 1 else ahead
    drawn = capsys.readouterr().err.split("\r")
    assert any("3/4" in bar for bar in drawn)
    assert not [bar for bar in drawn if "-" in bar.split("|")[-1] or "day" in bar]


def test_no_item_is_too_slow_only_because_the_clock_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = time.time, 0

    class Clock:
        """Says when an item began, then jumps once."""

        sleep = time.sleep

        @staticmethod
        def time() -> float:
            nonlocal asked
            asked += 1
            return real() + (YEAR if asked == 2 else 0)

    monkeypatch.setattr("pebble.pool.process.time", Clock)
    (done,) = run_parallel(parallel_tasks.note_and_sleep, [(str(tmp_path), 7, 0, 1.0)], workers=1, timeout=60)
    assert done.failure is None
    assert asked > 2
    assert (tmp_path / "7").is_file()
