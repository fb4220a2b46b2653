"""Trainings of two processes, held against one process on the same batches; and by torchrun, as users start them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from test_slem_end_to_end import two_channels  # noqa: F401 - a fixture
from training import FINE_TUNER, TRAINER, make_trainer, weights_of, with_fine_tuning, with_settings
from two_processes import RANKS, fold_folder, make_batches, torchrun, train_on, train_until_stopped

from nnunet_volf.training_files import EXIT_REQUEUE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name == "nt", reason="process groups and torchrun's signals are POSIX"),
]

# Sums in another order, in float32, over six steps; and the weight 1e-6 in place of 0 that nnU-Net gives the coarsest
# output where there are several processes.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}

PRETEXTS = {
    "nnUNetTrainerVolF": ("volf", {"optimizer": "sgd"}),
    "nnUNetTrainerMAE": ("volf_mae", {"optimizer": "sgd"}),
    "nnUNetTrainerVoCo": ("volf_voco", {"optimizer": "sgd"}),
    "nnUNetTrainerSLeM": ("volf_slem", {"optimizer": "sgd", "hidden": 16, "dropout": 0.0}),
}


def plans_for(trainer: str, **settings: Any) -> str:
    common = {"cpu_precision": "float32", **settings}
    if trainer == FINE_TUNER:
        return with_fine_tuning("Two", optimizer="sgd", **common)
    key, own = PRETEXTS[trainer]
    return with_settings("Two", key=key, **{**common, **own})


@pytest.mark.parametrize("trainer", [*PRETEXTS, FINE_TUNER])
def test_two_processes_train_as_one_does_on_the_same_batches(
    request: pytest.FixtureRequest, trainer: str, tmp_path: Path
) -> None:
    folders: NnUNetFolders = request.getfixturevalue("two_channels" if "SLeM" in trainer else "phantoms")
    plans, batches = plans_for(trainer), tmp_path / "batches.pt"
    make_batches(trainer, plans, batches)
    train_on(0, 1, trainer, plans, str(batches), str(tmp_path))
    summary = fold_folder(folders, trainer, plans) / "pretraining_summary.json"
    alone = json.loads(summary.read_text()) if trainer != FINE_TUNER else {}
    arguments = (RANKS, trainer, plans, str(batches), str(tmp_path))
    torch.multiprocessing.spawn(train_on, args=arguments, nprocs=RANKS)

    one = torch.load(tmp_path / "rank_0_of_1.pt", weights_only=False)
    first, second = (torch.load(tmp_path / f"rank_{rank}_of_2.pt", weights_only=False) for rank in range(RANKS))
    for name, tensor in one["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        torch.testing.assert_close(first["weights"][name], tensor, **TOLERANCE)
    begun = make_trainer(plans, trainer)
    begun.initialize()
    moved = [not torch.equal(tensor, one["weights"][name]) for name, tensor in begun.network.state_dict().items()]
    assert any(moved), "a comparison of untrained weights would tell nothing"
    for curve, values in one["logged"].items():
        assert first["logged"][curve] == second["logged"][curve]
        assert first["logged"][curve] == pytest.approx(values, rel=2e-3, abs=2e-3), curve
    if trainer != FINE_TUNER:
        together = json.loads(summary.read_text())
        assert together["validation_samples"] == alone["validation_samples"]
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3, abs=1e-3)
        folder = str(fold_folder(folders, trainer, plans).parent)
        assert any(name.startswith(folder) for name in first["written"]), "nothing would be noticed"
        assert not [name for name in second["written"] if name.startswith(folder)], "rank 0 writes"


def test_processes_that_are_stopped_and_go_on_end_in_the_weights_of_those_that_were_not(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    final = {}
    for how in ("undisturbed", "stopped", "resumed"):
        plans = with_settings("Calm" if how == "undisturbed" else "Stopped", cpu_precision="float32")
        (tmp_path / how).mkdir()
        torch.multiprocessing.spawn(train_until_stopped, args=(plans, str(tmp_path), how), nprocs=RANKS)
        found = [torch.load(tmp_path / how / f"rank_{rank}.pt", weights_only=False) for rank in range(RANKS)]
        assert [each["code"] for each in found] == [EXIT_REQUEUE if how == "stopped" else 0] * RANKS
        assert found[0]["drawn"] != found[1]["drawn"], "each rank draws its own"
        checkpoint = fold_folder(phantoms, TRAINER, plans) / "checkpoint_final.pth"
        assert checkpoint.is_file() == (how != "stopped")
        if checkpoint.is_file():
            final[how] = weights_of(checkpoint)
    for name, tensor in final["undisturbed"].items():
        assert torch.equal(final["resumed"][name], tensor), name


def follow(process: subprocess.Popen[str], until: str) -> str:
    """Read what a process says until it says this."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if re.search(until, line):
            return said
    raise AssertionError(f"{until!r} was not said:\n{said}")


def ranks_of(launcher: int) -> list[int]:
    """The processes that a launcher has started, by rank."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return sorted(int(pid) for pid, parent, what in rows if int(parent) == launcher and "nnunet_volf" in what)


def test_a_rank_that_is_killed_is_started_again_with_the_others_and_they_go_on(phantoms: NnUNetFolders) -> None:
    plans = with_settings(epochs=4, iterations=20)
    folder = fold_folder(phantoms, TRAINER, plans)
    old = folder / "checkpoint_final.pth"
    folder.mkdir(parents=True)
    old.write_bytes(b"of a training before, which this new one is not to go on from")
    process = torchrun("-tr", TRAINER, "-p", plans, options=("--max-restarts", "1"))
    said = follow(process, "Epoch 2$")
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    said += process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert said.count("Loading ") == 1
    assert re.search(r"Loading .*checkpoint_latest.pth", said), said
    assert "Epoch 0" not in said.partition("Loading ")[2], "what was done is not done again"
    assert torch.load(old, weights_only=True)["current_epoch"] == 4
    assert not list(folder.glob("*before*")), "the note of what was there is taken away"


def test_two_machines_go_on_when_a_process_of_one_is_killed(phantoms: NnUNetFolders) -> None:
    """Two launchers on this machine, each of which counts restarts for itself; both ranks have the local rank 0."""
    plans = with_settings(epochs=4, iterations=20)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meet = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "job")
    options = ("--nnodes", "2", *meet, "--max-restarts", "2")
    machines = [torchrun("-tr", TRAINER, "-p", plans, options=options, processes=1) for _ in range(2)]
    folder, deadline = fold_folder(phantoms, TRAINER, plans), time.monotonic() + 120
    while not (folder / "checkpoint_latest.pth").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(ranks_of(machines[0].pid)[0], signal.SIGKILL)
    said = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(said)
    assert sum(each.count("Loading ") for each in said) == 1
    assert (folder / "checkpoint_final.pth").is_file()
    assert len(list(folder.glob("training_log*"))) == 2, "one a start, by rank 0"


def test_a_stop_signal_to_torchrun_saves_and_the_same_command_with_c_goes_on(phantoms: NnUNetFolders) -> None:
    plans = with_settings(epochs=1000, iterations=10)
    process = torchrun("-tr", TRAINER, "-p", plans)
    said = follow(process, "Epoch 1$")
    process.send_signal(signal.SIGTERM)
    said += process.communicate(timeout=120)[0]
    assert "Stopped by SIGTERM after step" in said, said
    assert process.returncode != 0
    with_settings(epochs=3, iterations=10)
    process = torchrun("-tr", TRAINER, "-p", plans, "--c")
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert "Epoch 0" not in said
    assert (fold_folder(phantoms, TRAINER, plans) / "checkpoint_final.pth").is_file()


def test_pretraining_and_fine_tuning_from_it_on_two_processes(phantoms: NnUNetFolders) -> None:
    process = torchrun("-tr", TRAINER, "-p", with_settings("Pre"))
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    weights = fold_folder(phantoms, TRAINER, "Pre") / "checkpoint_final.pth"
    plans = with_fine_tuning("Fine", iterations=1, epochs=1)
    process = torchrun("-tr", FINE_TUNER, "-p", plans, "-pretrained_weights", str(weights))
    said = process.communicate(timeout=400)[0]
    assert process.returncode == 0, said
    folder = fold_folder(phantoms, FINE_TUNER, plans)
    assert f"Pretrained weights were loaded from {weights}" in next(folder.glob("training_log*")).read_text()
    assert len(list((folder / "validation").glob("*.nii.gz"))) == 2
    assert (folder / "validation" / "summary.json").is_file()
