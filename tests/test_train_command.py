"""`nnunet-volf train` without starting processes: what it takes, refuses and hands on."""

from __future__ import annotations

import argparse
import inspect
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from nnunetv2.run import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from training import make_trainer, weights_of, with_settings

from nnunet_volf import ranks, torchrun
from nnunet_volf.cli import main, parser
from nnunet_volf.commands.train import nnunets_arguments
from nnunet_volf.errors import TrainingError
from nnunet_volf.pretext.voco.shared_norm import SharedNorm
from nnunet_volf.ranks import Place
from nnunet_volf.torchrun import Request
from nnunet_volf.weights.asked import asked

TASK = ["train", "4", "3d_fullres", "0"]
ALL = [
    *("-tr", "nnUNetTrainerVolF", "-p", "Mine", "-pretrained_weights", "a file.pth", "-num_gpus", "2"),
    *("-device", "cpu", "--npz", "--val", "--val_best"),
]  # fmt: skip


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the second process that torchrun starts on one machine."""
    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))


@pytest.fixture
def nnunets_parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser of nnUNetv2_train."""
    seen: list[argparse.ArgumentParser] = []

    class Seen(BaseException):
        pass

    def look(self: argparse.ArgumentParser, *_: Any) -> None:
        seen.append(self)
        raise Seen

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", look)
        with pytest.raises(Seen):
            run_training.run_training_entry()
    return seen[0]


def test_it_has_the_arguments_of_nnunets_command(nnunets_parser: argparse.ArgumentParser) -> None:
    (ours,) = (
        action.choices["train"]
        for action in parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )  # fmt: skip

    def described(of: argparse.ArgumentParser) -> set[tuple[Any, ...]]:
        return {(a.dest, tuple(a.option_strings), a.default, a.nargs, a.type or str) for a in of._actions}

    assert described(ours) == described(nnunets_parser)


@pytest.mark.parametrize("options", [[], ALL, ["--c", "--disable_checkpointing"]])
def test_nnunet_understands_what_is_handed_on_as_it_was_meant(
    nnunets_parser: argparse.ArgumentParser, options: list[str]
) -> None:
    args = parser().parse_args([*TASK, *options])
    understood = vars(nnunets_parser.parse_args(nnunets_arguments(args)))
    assert understood == {name: value for name, value in vars(args).items() if name != "run"}


def test_without_torchrun_it_is_nnunets_own_command_and_trainers_know_what_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(run_training, "run_training_entry", lambda: seen.append(list(sys.argv)))
    before = list(sys.argv)
    assert main([*TASK, "-pretrained_weights", "weights.pth", "-num_gpus", "2"]) == 0
    assert sys.argv == before
    assert seen[0][:4] == ["nnUNetv2_train", *TASK[1:]]
    assert seen[0][seen[0].index("-num_gpus") + 1] == "2"
    assert asked(seen[0]).weights == Path("weights.pth")


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-num_gpus", "2"], "-num_gpus 2 has nnU-Net start processes itself, and torchrun has started 2 already"),
        (["-device", "mps"], "-device mps is one GPU for one process"),
        (["--c", "--val"], "--c and --val contradict each other"),
        (["--c", "-pretrained_weights", "x.pth"], "--c and -pretrained_weights contradict"),
        (["--val_best", "--disable_checkpointing"], "--val_best and --disable_checkpointing contradict"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([*TASK, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_fold_is_a_number_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "4", "3d_fullres", "first"]) == 2
    assert "The fold is a number or all, and not 'first'" in capsys.readouterr().err


@pytest.mark.usefixtures("second_of_two")
def test_too_few_gpus_are_told_with_their_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    threads = torch.get_num_threads()
    try:
        assert main(TASK) == 2
    finally:
        torch.set_num_threads(threads)
    told = capsys.readouterr().err
    assert "torchrun started 2 processes here, and this machine has 1 GPUs. Give it --nproc-per-node 1" in told


def test_a_batch_smaller_than_the_number_of_processes_is_refused(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(with_settings())
    trainer.is_ddp = True
    monkeypatch.setattr("nnunet_volf.distributed.dist.get_world_size", lambda: 3)
    with pytest.raises(TrainingError, match=r"3 processes cannot share a batch of 2.* at most 2 processes"):
        trainer.initialize()


# ------------------------------------------------------------------------------ places and agreement


def test_the_place_is_told_by_torchruns_variables_and_by_all_of_them_or_none() -> None:
    told = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    elastic = {"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_RUN_ID": "job"}
    assert Place.told_by({**told, **elastic}) == Place(5, 1, 8, 4, restarts=2, run="job")
    assert Place.told_by({**told, "TORCHELASTIC_RUN_ID": "none"}) == Place(5, 1, 8, 4)
    assert Place.told_by({name: told[name] for name in ("RANK", "WORLD_SIZE")}) is None


def test_the_device_is_that_of_the_local_rank(second_of_two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunet_volf.distributed import own_device

    monkeypatch.setenv("RANK", "5")
    assert own_device("cuda") == torch.device("cuda", 1)
    assert own_device("cpu") == torch.device("cpu")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("nnunet_volf.distributed.dist.get_rank", lambda: 3)
    assert own_device("cuda") == torch.device("cuda", 3), "processes that nnU-Net has started: all on one machine"


def test_nnunet_still_wraps_its_network_by_the_name_that_is_replaced_and_takes_the_rank_for_a_gpu() -> None:
    wrapping, making = (inspect.getsource(made) for made in (nnUNetTrainer.initialize, nnUNetTrainer.__init__))
    assert "self.network = DDP(self.network, device_ids=[self.local_rank])" in wrapping
    assert "self.local_rank = 0 if not self.is_ddp else dist.get_rank()" in making


@pytest.mark.parametrize(("rank", "local_rank", "before"), [(0, 0, 0), (4, 0, 1), (5, 1, 2)])
def test_rank_0_makes_a_file_then_the_first_of_each_machine_then_the_rest(
    monkeypatch: pytest.MonkeyPatch, rank: int, local_rank: int, before: int
) -> None:
    waits: list[str] = []
    place = {"RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(ranks, "in_company", lambda: True)
    monkeypatch.setattr(ranks.dist, "get_rank", lambda: rank)
    monkeypatch.setattr(ranks.dist, "barrier", lambda: waits.append("wait"))
    with ranks.makers_first():
        waits.append("make")
    assert waits.index("make") == before
    assert len(waits) == 3, "all ranks wait as often"


def test_one_process_agrees_with_itself() -> None:
    cpu = torch.device("cpu")
    assert ranks.highest(3, cpu) == 3
    assert not ranks.any_rank(False, cpu)
    assert ranks.of_all_ranks("x") == ["x"]
    assert ranks.ranks_on_this_machine() == 1
    ranks.wait_for_all()


def test_the_norm_of_one_process_is_torchs() -> None:
    rows = torch.randn(6, 4)
    expected = nn.BatchNorm1d(4, affine=False, track_running_stats=False)(rows)
    assert torch.equal(SharedNorm()(rows), expected)


# ------------------------------------------------------------------------------ how a process ends


def test_a_process_leaves_with_its_code_and_what_it_said_and_waits_for_no_thread() -> None:
    code = """
import atexit, threading, time
from nnunet_volf.torchrun import leave
atexit.register(print, "cleaned up")
threading.Thread(target=time.sleep, args=(1000,)).start()
print("said")
leave(75)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert (ended.returncode, ended.stdout.splitlines()) == (75, ["said", "cleaned up"]), ended.stderr


# ------------------------------------------------------------------------------ where a training begins


def request(**changes: Any) -> Request:
    return Request("4", "3d_fullres", 0, "nnUNetTrainerVolF", "nnUNetPlans", None, "cpu", **changes)


def chosen(folder: Path, restarts: int = 0, run: str = "", **changes: Any) -> str | None:
    trainer = SimpleNamespace(output_folder=str(folder))
    found = torchrun._checkpoint_of(trainer, request(**changes), Place(0, 0, 2, 2, restarts, run))
    return found.name if found is not None else None


def test_with_c_it_goes_on_from_what_nnunet_would(tmp_path: Path) -> None:
    assert chosen(tmp_path, resume=True) is None
    for name in ("checkpoint_best.pth", "checkpoint_latest.pth", "checkpoint_final.pth"):
        (tmp_path / name).write_bytes(b"x")
        assert chosen(tmp_path, resume=True) == chosen(tmp_path, restarts=1, resume=True) == name


def test_a_restart_goes_on_from_what_was_written_since_the_training_began(tmp_path: Path) -> None:
    final, latest = (tmp_path / f"checkpoint_{name}.pth" for name in ("final", "latest"))
    final.write_bytes(b"of a training before")
    assert chosen(tmp_path) is None, "a new training"
    assert chosen(tmp_path, restarts=1) is None, "killed before it had saved anything"
    latest.write_bytes(b"of this one")
    assert chosen(tmp_path, restarts=2) == latest.name
    final.write_bytes(b"of this one, at its end")
    os.utime(final, ns=(1, 1))
    assert chosen(tmp_path, restarts=3) == final.name


def test_the_same_run_goes_on_also_where_no_restart_was_counted(tmp_path: Path) -> None:
    latest = tmp_path / "checkpoint_latest.pth"
    latest.write_bytes(b"of a training before")
    assert chosen(tmp_path, run="first") is None
    latest.write_bytes(b"of this one")
    assert chosen(tmp_path, run="first") == latest.name
    assert chosen(tmp_path, run="second") is None


def test_processes_meet_where_none_that_is_gone_has_been() -> None:
    store = torch.distributed.HashStore()
    store.set("meeting", "of a rank 0 that is gone")

    def meet(rank: int) -> str:
        return torchrun.meeting(store, Place(rank, rank, 3, 3))

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(meet, rank) for rank in (1, 2)]
        time.sleep(0.3)  # they have knocked at the old door
        first = pool.submit(meet, 0)
        names = {found.result(timeout=60) for found in (first, *others)}
    assert len(names) == 1
    assert names != {"of a rank 0 that is gone"}


def test_a_rank_0_that_never_comes_is_told() -> None:
    store = torch.distributed.HashStore()
    store.set("meeting", "of a rank 0 that is gone")
    with pytest.raises(TrainingError, match="Rank 0 did not answer rank 1"):
        torchrun.meeting(store, Place(1, 1, 2, 2), seconds=0.1)


def test_only_a_finished_training_is_validated(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_latest.pth").write_bytes(b"x")
    assert chosen(tmp_path, only_validation=True) is None
    (tmp_path / "checkpoint_final.pth").write_bytes(b"x")
    assert chosen(tmp_path, only_validation=True) == "checkpoint_final.pth"


def test_weights_are_loaded_as_nnunet_loads_them_and_others_are_named(phantoms: NnUNetFolders) -> None:
    trainer = make_trainer(with_settings(epochs=1, iterations=1))
    trainer.run_training()
    file = Path(trainer.output_folder) / "checkpoint_final.pth"
    ours, nnunets = (make_trainer("nnUNetPlans", "nnUNetTrainer") for _ in range(2))
    for fresh in (ours, nnunets):
        fresh.initialize()
    torchrun.load_weights(ours.network, file)
    run_training.load_pretrained_weights(nnunets.network, str(file))
    for name, tensor in nnunets.network.state_dict().items():
        if ".seg_layers." not in name:
            assert torch.equal(ours.network.state_dict()[name], tensor), name
            assert torch.equal(tensor, weights_of(file)[name])
    with pytest.raises(TrainingError, match=r"does not fit this network: \d+ of \d+ tensors .* weights adapt"):
        torchrun.load_weights(nn.Conv3d(1, 1, 1), file)
