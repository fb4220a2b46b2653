"""Trainings of one process and of several on the very same batches, and torchrun on the phantoms."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed as dist
from training import DATASET, make_trainer

if TYPE_CHECKING:  # importing it takes nnU-Net's folders out of the environment of a process that was given them
    from conftest import NnUNetFolders

RANKS = 2


class Fed:
    """A loader of batches that were made before; a rank takes its part of each."""

    def __init__(self, batches: list[Any], rank: int, ranks: int) -> None:
        self.batches, self.rank, self.ranks, self.count = batches, rank, ranks, 0

    def __next__(self) -> dict[str, Any]:
        batch = self.batches[self.count % len(self.batches)]
        self.count += 1
        return {name: part(value, self.rank, self.ranks) for name, value in batch.items()}


def part(value: Any, rank: int, ranks: int) -> Any:
    if isinstance(value, list) and torch.is_tensor(value[0]):
        return [part(scale, rank, ranks) for scale in value]
    size = len(value) // ranks
    return value[rank * size : (rank + 1) * size]


def make_batches(trainer: str, plans: str, file: Path) -> None:
    """Save batches of samples for two epochs of three steps, of a training's own loader."""
    maker = make_trainer(plans, trainer)
    maker.initialize()
    loader, _ = maker.get_dataloaders()
    kept = ("data", "target", "keys")
    torch.save([{name: next_one[name] for name in kept} for next_one in (next(loader) for _ in range(6))], file)


def train_on(rank: int, ranks: int, trainer: str, plans: str, batches: str, folder: str) -> None:
    """Train on saved batches and leave weights, curves and what was written; in a group where there are ranks."""
    if ranks > 1:
        join(rank, ranks, folder)
        written = note_what_is_written()
    made = make_trainer(plans, trainer)
    saved = torch.load(batches, weights_only=False)
    make = made.get_dataloaders

    def get_dataloaders() -> tuple[Any, Any]:
        own, validation = make()
        own = Fed(saved, rank, ranks)
        return own, validation if trainer != "nnUNetTrainerVolFFineTune" else Fed(saved, rank, ranks)

    made.get_dataloaders = get_dataloaders
    if trainer == "nnUNetTrainerVolFFineTune":
        made.num_val_iterations_per_epoch = 2
    made.run_training()
    made.perform_actual_validation()
    network = made.network.module if ranks > 1 else made.network
    logged = {
        name: list(made.logger.get_value(name, step=None)) for name in ("train_losses", "val_losses", "mean_fg_dice")
    }
    left = {"weights": network.state_dict(), "logged": logged, "written": written if ranks > 1 else []}
    torch.save(left, Path(folder) / f"rank_{rank}_of_{ranks}.pt")
    if ranks > 1:
        dist.destroy_process_group()


def join(rank: int, ranks: int, folder: str) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    os.environ.update({name: str(value) for name, value in place.items()})
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)


def note_what_is_written() -> list[str]:
    """Return a list that grows by every file that this process opens to write, or puts into a place, from now on."""
    written: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(arguments[0]))
        elif event in ("os.rename", "shutil.copyfile"):
            written.append(str(arguments[1]))

    sys.addaudithook(note)
    return written


def train_until_stopped(rank: int, plans: str, folder: str, how: str) -> None:
    """Train by a loader in this process, which draws by rank; "stopped": rank 1 alone is asked to stop in a step."""
    join(rank, RANKS, f"{folder}/{how}")
    made = make_trainer(plans, resume=how == "resumed")
    np.random.seed(7 + rank)  # noqa: NPY002 - the state that loaders draw from
    drawn: list[Any] = []
    step = made.train_step

    def noted(batch: dict[str, Any]) -> Any:
        drawn.append(batch["keys"])
        if how == "stopped" and rank == 1 and (made.current_epoch, made.iteration) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(batch)

    made.train_step = noted
    code = 0
    try:
        made.run_training()
    except SystemExit as left:
        code = int(left.code or 0)
    torch.save({"code": code, "drawn": drawn}, Path(folder) / how / f"rank_{rank}.pt")
    dist.destroy_process_group()


def torchrun(*arguments: str, options: tuple[str, ...] = (), processes: int = RANKS) -> subprocess.Popen[str]:
    """Start `nnunet-volf train` on the phantoms by torchrun, in a process group of its own."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    standalone = [] if "--nnodes" in options else ["--standalone"]
    command = [
        *launcher,
        *standalone,
        *options,
        "-m",
        "nnunet_volf",
        "train",
        DATASET,
        "3d_fullres",
        "0",
        "-device",
        "cpu",
    ]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def fold_folder(folders: NnUNetFolders, trainer: str, plans: str) -> Path:
    return folders.results / DATASET / f"{trainer}__{plans}__3d_fullres" / "fold_0"
