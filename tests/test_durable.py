"""Nothing done is lost: stopping, resuming, damaged files, losses that are not finite."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from processes import alive, forked_by, wait_until
from training import (
    DATASET,
    FINE_TUNER,
    TRAINER,
    make_trainer,
    run_until,
    weights_of,
    with_fine_tuning,
    with_settings,
)

from nnunet_volf.errors import TrainingError
from nnunet_volf.training_files import EXIT_REQUEUE


def folder_of(folders: NnUNetFolders, plans: str) -> Path:
    return folders.results / DATASET / f"{TRAINER}__{plans}__3d_fullres" / "fold_0"


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def undisturbed(phantoms: NnUNetFolders) -> Path:
    """The final checkpoint of a training that nobody interrupted."""
    plans = with_settings("Undisturbed")
    run_until(make_trainer(plans))
    return folder_of(phantoms, plans) / "checkpoint_final.pth"


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3, 5])
def test_a_training_stopped_anywhere_and_resumed_ends_in_identical_weights(
    phantoms: NnUNetFolders, undisturbed: Path, stop_at: int
) -> None:
    plans = with_settings("Stopped")
    with pytest.raises(SystemExit) as left:
        run_until(make_trainer(plans), stop_at)
    assert left.value.code == EXIT_REQUEUE == 75
    resumed = make_trainer(plans, resume=True)
    assert resumed.current_epoch * 3 + resumed.iteration == stop_at + 1, "the running step is finished"
    run_until(resumed)
    assert_same_weights(folder_of(phantoms, plans) / "checkpoint_final.pth", undisturbed)


def test_the_curves_of_a_resumed_training_have_one_value_an_epoch(phantoms: NnUNetFolders, undisturbed: Path) -> None:
    plans = with_settings("Stopped")
    with pytest.raises(SystemExit):
        run_until(make_trainer(plans), stop_at=4)
    resumed = make_trainer(plans, resume=True)
    run_until(resumed)
    logged = resumed.logger.local_logger.my_fantastic_logging
    assert {name: len(values) for name, values in logged.items()} == dict.fromkeys(logged, 2)
    expected = torch.load(undisturbed, weights_only=True)["logging"]["train_losses"]
    assert logged["train_losses"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no SIGUSR1")
def test_sigusr1_stops_like_sigterm_and_the_log_says_how_to_go_on(phantoms: NnUNetFolders) -> None:
    plans = with_settings()
    with pytest.raises(SystemExit) as left:
        run_until(make_trainer(plans), stop_at=1, number=signal.SIGUSR1)
    assert left.value.code == EXIT_REQUEUE
    log = next(folder_of(phantoms, plans).glob("training_log*")).read_text()
    assert "Stopped by SIGUSR1 after step 2 of epoch 0" in log
    assert "with --c goes on from here" in log


def test_signal_handlers_are_put_back_after_a_training(phantoms: NnUNetFolders) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_until(make_trainer(with_settings(epochs=1)))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(
    phantoms: NnUNetFolders, undisturbed: Path
) -> None:
    plans = with_settings("Stopped")
    with pytest.raises(SystemExit):
        run_until(make_trainer(plans), stop_at=4)  # epoch 0 left a checkpoint behind, which is now the previous one
    folder = folder_of(phantoms, plans)
    latest = folder / "checkpoint_latest.pth"
    latest.write_bytes(latest.read_bytes()[: latest.stat().st_size // 2])

    resumed = make_trainer(plans, resume=True)
    assert (resumed.current_epoch, resumed.iteration) == (1, 0)
    logs = "".join(path.read_text() for path in folder.glob("training_log*"))
    assert f"WARNING: {latest} cannot be read" in logs
    run_until(resumed)
    assert_same_weights(folder / "checkpoint_final.pth", undisturbed)


def test_when_every_checkpoint_is_damaged_the_error_lists_them(phantoms: NnUNetFolders) -> None:
    plans = with_settings()
    with pytest.raises(SystemExit):
        run_until(make_trainer(plans), stop_at=4)
    for path in folder_of(phantoms, plans).glob("checkpoint_*.pth"):
        path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"(?s)no checkpoint to continue from.*latest.*previous.*best.*without --c"):
        make_trainer(plans, resume=True)


def test_checkpoints_are_also_written_by_the_clock(phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**9, 40))  # every look at the clock finds 40 seconds gone
    monkeypatch.setattr("nnunet_volf.durable.monotonic", lambda: next(clock))
    trainer = make_trainer(with_settings(epochs=1, iterations=6, save_every_minutes=1.0))
    saved: list[int] = []
    save = trainer.save_checkpoint
    monkeypatch.setattr(trainer, "save_checkpoint", lambda path: (saved.append(trainer.iteration), save(path)))
    trainer.run_training()
    assert saved[:2] == [1, 3]  # the start of the epoch looks at the clock, too


def test_a_finished_training_can_be_extended(phantoms: NnUNetFolders) -> None:
    run_until(make_trainer(with_settings("Grown", epochs=1)))
    trainer = make_trainer(with_settings("Grown", epochs=3), resume=True)
    assert trainer.current_epoch == 1
    run_until(trainer)
    assert trainer.current_epoch == 3
    logs = "".join(path.read_text() for path in folder_of(phantoms, "Grown").glob("training_log*"))
    assert "Settings changed since the checkpoint: epochs 1 -> 3" in logs
    assert "left. Waited for data during" in logs


def test_going_on_with_a_finished_training_leaves_it_as_it_is(phantoms: NnUNetFolders, undisturbed: Path) -> None:
    before = torch.load(undisturbed, weights_only=True)
    trainer = make_trainer("Undisturbed", resume=True)
    run_until(trainer)
    after = torch.load(undisturbed, weights_only=True)
    assert after["current_epoch"] == before["current_epoch"] == 2
    assert all(torch.equal(after["network_weights"][k], v) for k, v in before["network_weights"].items())


def test_resuming_with_another_number_of_classes_is_refused(phantoms: NnUNetFolders) -> None:
    run_until(make_trainer(with_settings("Changed", epochs=1)))
    with_settings("Changed", epochs=1, coefficients=2, foreground_ratio=0.5)
    with pytest.raises(TrainingError, match=r"coefficients 4 -> 2\. .* do not fit\. Set coefficients=4 again"):
        make_trainer("Changed", resume=True)


def test_checkpoints_hold_cpu_tensors_and_plain_types_only(undisturbed: Path) -> None:
    checkpoint = torch.load(undisturbed, weights_only=True)
    assert {"network_weights", "optimizer_state", "init_args", "trainer_name", "nnunet_volf"} <= checkpoint.keys()
    assert checkpoint["nnunet_volf"]["method"] == "volume fusion"
    assert {tensor.device.type for tensor in checkpoint["network_weights"].values()} == {"cpu"}


class Poisoned:
    """A loader that spoils some of its batches."""

    def __init__(self, loader: Any, spoiled: set[int]) -> None:
        self.loader, self.spoiled, self.count = loader, spoiled, 0

    def __next__(self) -> Any:
        batch = next(self.loader)
        if self.count in self.spoiled:
            batch["data"][0] = float("nan")
        self.count += 1
        return batch


def poison(trainer: Any, spoiled: set[int]) -> None:
    make = trainer.get_dataloaders

    def get_dataloaders() -> tuple[Any, Any]:
        training, validation = make()
        return Poisoned(training, spoiled), validation

    trainer.get_dataloaders = get_dataloaders


def test_steps_with_a_loss_that_is_not_finite_are_skipped_and_named(phantoms: NnUNetFolders) -> None:
    plans = with_settings(epochs=1, iterations=4)
    trainer = make_trainer(plans)
    poison(trainer, {1})
    trainer.run_training()
    assert trainer.nonfinite_steps == 1
    weights = weights_of(folder_of(phantoms, plans) / "checkpoint_final.pth")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert trainer.logger.get_value("train_losses", step=-1) > 0, "the mean is over the steps that were taken"
    log = next(folder_of(phantoms, plans).glob("training_log*")).read_text()
    assert "Step 1 of epoch 0 skipped: the loss is nan; cases [('case_" in log


def test_a_training_of_nothing_but_bad_losses_stops_with_advice(phantoms: NnUNetFolders) -> None:
    trainer = make_trainer(with_settings(iterations=9, nonfinite_limit=3))
    poison(trainer, set(range(100)))
    with pytest.raises(TrainingError, match=r"4 steps of epoch 0 .* \(nonfinite_limit\) is 3.*lower learning_rate"):
        trainer.run_training()


def test_an_epoch_without_a_single_finite_loss_stops_the_training(phantoms: NnUNetFolders) -> None:
    trainer = make_trainer(with_settings(iterations=2))
    poison(trainer, {0, 1})
    with pytest.raises(TrainingError, match="Not one step of epoch 0 had a finite loss"):
        trainer.run_training()


def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(phantoms: NnUNetFolders) -> None:
    plans = with_settings(epochs=1)
    trainer = make_trainer(plans)
    run_until(trainer)
    final = folder_of(phantoms, plans) / "checkpoint_final.pth"
    before = final.read_bytes()
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"checkpoint_final.pth was not written: .* NaN or infinite"):
        trainer.save_checkpoint(str(final))
    assert final.read_bytes() == before


def test_disabled_checkpointing_writes_nothing(phantoms: NnUNetFolders) -> None:
    plans = with_settings(epochs=1)
    trainer = make_trainer(plans)
    trainer.disable_checkpointing = True
    run_until(trainer)
    assert not list(folder_of(phantoms, plans).glob("*.pth"))


def test_what_a_killed_training_left_half_written_is_gone_when_it_goes_on(phantoms: NnUNetFolders) -> None:
    plans = with_settings("Killed", epochs=1)
    folder = folder_of(phantoms, plans)
    for left in (".progress_a1b2.tmp/progress.png", "checkpoint_latest.pth.a1b2.tmp", "panels/epoch_0001.png.a1b2.tmp"):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_text("half")
    run_until(make_trainer(plans))
    assert not [path for path in folder.rglob("*") if ".tmp" in path.name]
    assert (folder / "progress.png").is_file()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forked workers")
@pytest.mark.parametrize("trainer", [TRAINER, FINE_TUNER])
def test_loader_workers_end_with_a_training_that_is_killed(
    phantoms: NnUNetFolders, tmp_path: Path, trainer: str
) -> None:
    plans = with_settings(epochs=1, iterations=100_000) if trainer == TRAINER else with_fine_tuning(iterations=100_000)
    log = tmp_path / "said.txt"
    program = "from nnunetv2.run.run_training import run_training_entry; run_training_entry()"
    words = [DATASET, "3d_fullres", "0", "-p", plans, "-tr", trainer, "-device", "cpu"]
    with log.open("wb") as file:
        training = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env={**os.environ, "nnUNet_n_proc_DA": "2", "PYTHONUNBUFFERED": "1"}, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        assert wait_until(lambda: "Epoch 0" in log.read_text(), 120), log.read_text()
        workers = forked_by(training.pid)
        assert len(workers) >= 2
    finally:
        training.kill()
        training.wait()
    assert wait_until(lambda: not any(alive(worker) for worker in workers), 30)


@pytest.mark.weekly
def test_a_training_killed_at_random_moments_ends_in_identical_weights(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    """kill -9 has no handler: what is on the disk at that moment has to be whole."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom training import make_trainer\n"
        "make_trainer(sys.argv[2], resume=sys.argv[3] == 'resume').run_training()\n"
    )

    def start(plans: str, how: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(script), str(Path(__file__).parent), plans, how]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    settings = {"epochs": 6, "iterations": 8, "save_every_minutes": 0.001}
    calm, killed = with_settings("Calm", **settings), with_settings("Killed", **settings)
    assert start(calm, "new").wait(timeout=200) == 0
    latest = folder_of(phantoms, killed) / "checkpoint_latest.pth"
    for attempt in range(4):
        process = start(killed, "new" if attempt == 0 else "resume")
        deadline = time.monotonic() + 60
        seen = latest.stat().st_mtime_ns if latest.exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            if latest.exists() and latest.stat().st_mtime_ns != seen:
                time.sleep(0.13 * attempt)  # at another moment each time, often within a write
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert start(killed, "resume").wait(timeout=200) == 0
    assert_same_weights(
        folder_of(phantoms, killed) / "checkpoint_final.pth", folder_of(phantoms, calm) / "checkpoint_final.pth"
    )


def _flag_of_one_rank(rank: int, file: str) -> None:
    from torch import distributed as dist

    from nnunet_volf.ranks import any_rank

    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    assert any_rank(rank == 1, torch.device("cpu")), "one rank is enough"
    assert not any_rank(False, torch.device("cpu"))
    dist.destroy_process_group()


@pytest.mark.slow
def test_when_one_rank_wants_to_stop_all_ranks_know(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_flag_of_one_rank, args=(str(tmp_path / "meet"),), nprocs=2)


class Gone:
    """A loader whose workers have died; of a signal that reached this process too, if there is one."""

    def __init__(self, number: int | None) -> None:
        self.number = number

    def __next__(self) -> Any:
        if self.number is not None:
            os.kill(os.getpid(), self.number)
        raise RuntimeError("One or more background workers are no longer alive.")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, SystemExit), (None, RuntimeError)])
def test_workers_that_died_of_the_same_signal_do_not_hide_it_and_others_are_an_error(
    phantoms: NnUNetFolders, number: int | None, expected: type[BaseException]
) -> None:
    trainer = make_trainer(with_settings())
    make = trainer.get_dataloaders
    trainer.get_dataloaders = lambda: (Gone(number), make()[1])
    with pytest.raises(expected):
        trainer.run_training()
    if number is not None:
        resumed = make_trainer(with_settings(), resume=True)
        assert (resumed.current_epoch, resumed.iteration) == (0, 0), "an epoch without a step is not passed over"


def test_workers_that_died_of_a_signal_while_the_epoch_is_validated_cost_nothing(
    phantoms: NnUNetFolders, undisturbed: Path
) -> None:
    plans = with_settings("Stopped")
    trainer = make_trainer(plans)
    make = trainer.get_dataloaders
    trainer.get_dataloaders = lambda: (make()[0], Gone(signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        trainer.run_training()
    assert left.value.code == EXIT_REQUEUE
    resumed = make_trainer(plans, resume=True)
    assert (resumed.current_epoch, resumed.iteration) == (0, 3), "all steps of the epoch are done"
    run_until(resumed)
    assert_same_weights(folder_of(phantoms, plans) / "checkpoint_final.pth", undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
def test_the_stock_command_with_workers_leaves_with_75_when_its_group_is_stopped(phantoms: NnUNetFolders) -> None:
    import shutil

    plans = with_settings(epochs=1000)
    command = shutil.which("nnUNetv2_train", path=str(Path(sys.executable).parent))
    assert command is not None
    arguments = [command, DATASET, "3d_fullres", "0", "-tr", TRAINER, "-p", plans, "-device", "cpu"]
    environment = {**os.environ, "nnUNet_n_proc_DA": "2"}
    process = subprocess.Popen(
        arguments, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Epoch 2" in line:
            os.killpg(process.pid, signal.SIGTERM)
            break
    output = process.communicate(timeout=120)[0]
    assert process.returncode == EXIT_REQUEUE, output
    assert "Stopped by SIGTERM" in output
    assert make_trainer(plans, resume=True).current_epoch >= 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_is_flat_over_many_epochs(phantoms: NnUNetFolders) -> None:
    """nnU-Net draws its curves after each epoch, and each picture is 65 MB that nothing but a collection frees."""
    trainer = make_trainer(with_settings(epochs=14, iterations=1, validation_samples=2))
    held: list[int] = []
    end = trainer.on_epoch_end

    def noted() -> None:
        end()
        held.append(int(re.search(r"Anonymous:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())[1]) // 1024)

    trainer.on_epoch_end = noted
    trainer.run_training()
    assert max(held[4:]) - held[3] < 60, held
