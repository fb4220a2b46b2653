"""A training as one of the processes that torchrun starts: as nnUNetv2_train does it, on one machine or several."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NoReturn
from uuid import uuid4

import torch
from nnunetv2.run.run_training import get_trainer_from_args
from torch import distributed as dist
from torch.backends import cudnn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nnunet_volf.distributed import DistributedTraining, unwrapped
from nnunet_volf.errors import TrainingError
from nnunet_volf.files import read_json, write_json
from nnunet_volf.ranks import Place, of_all_ranks
from nnunet_volf.training_files import BEST, FINAL, LATEST
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.names import canonical_name, is_head

# What lay in the output folder when a new training began: a restart goes on from what was written since.
_BEFORE = "checkpoints_before.json"


@dataclass(frozen=True)
class Request:
    """What is to be trained and how, in the words of nnUNetv2_train."""

    dataset: str
    configuration: str
    fold: int | str
    trainer: str
    plans: str
    pretrained_weights: Path | None
    device: str
    resume: bool = False
    only_validation: bool = False
    best_for_validation: bool = False
    probabilities: bool = False
    no_checkpoints: bool = False


def train(request: Request, place: Place) -> None:
    """Take part in a training; processes that torchrun has restarted go on from the newest checkpoint."""
    _take_device(request.device, place)
    with _group(request.device, place), _quiet_but_rank_0(place):
        place = replace(place, restarts=max(of_all_ranks(place.restarts)))
        resume = request.resume or place.restarts > 0
        trainer: Any = get_trainer_from_args(
            request.dataset,
            request.configuration,
            request.fold,
            request.trainer,
            request.plans,
            resume,
            torch.device(request.device),
        )
        if not isinstance(trainer, DistributedTraining) and (
            request.device != "cuda" or place.ranks > place.local_ranks
        ):
            raise TrainingError(
                f"{request.trainer} is not a trainer of nnunet-volf: it takes the rank of a process for the number of "
                "its GPU, which holds on one machine with GPUs only. To train from scratch or from weights on several "
                "machines or on CPUs, take -tr nnUNetTrainerVolFFineTune."
            )
        trainer.disable_checkpointing = request.no_checkpoints
        _begin(trainer, request, place)
        cudnn.deterministic, cudnn.benchmark = False, True
        if not request.only_validation:
            trainer.run_training()
            if place.rank == 0:
                _note(trainer).unlink(missing_ok=True)
        if request.best_for_validation:
            trainer.load_checkpoint(str(Path(trainer.output_folder) / BEST))
        trainer.perform_actual_validation(request.probabilities)


def _begin(trainer: Any, request: Request, place: Place) -> None:
    """Load what the training starts from: a checkpoint, weights, or nothing."""
    found: Path | None = None
    if place.rank == 0:
        found = _checkpoint_of(trainer, request, place)
    found = of_all_ranks(found)[0]
    missing = of_all_ranks(found is not None and not found.is_file())
    if any(missing):
        raise TrainingError(
            f"Rank 0 goes on from {found}, which ranks {[rank for rank, it in enumerate(missing) if it]} do not see. "
            "All machines need the same nnUNet_results: a folder that they share."
        )
    if found is not None:
        trainer.load_checkpoint(str(found))
    elif request.only_validation:
        raise TrainingError(
            f"There is no {FINAL} in {trainer.output_folder}: only a finished training can be validated."
        )
    elif request.pretrained_weights is not None:
        trainer.pretrained_weights = request.pretrained_weights
        trainer.initialize()
        load_weights(trainer.network, request.pretrained_weights)
    elif request.resume or place.restarts:
        trainer.print_to_log_file("There is no checkpoint to go on from yet: the training begins anew.")


def _checkpoint_of(trainer: Any, request: Request, place: Place) -> Path | None:
    """Return the checkpoint to load; after a restart of a new training, none that was there before it.

    Processes also start anew, with no restart counted, when a machine has come back to the run it belonged to.
    """
    folder = Path(trainer.output_folder)
    there = [folder / name for name in (FINAL, LATEST, BEST) if (folder / name).is_file()]
    if request.only_validation:
        return next((path for path in there if path.name == FINAL), None)
    if request.resume:
        return there[0] if there else None
    stamps = {path.name: [path.stat().st_mtime_ns, path.stat().st_size] for path in there}
    note: dict[str, Any] = {"run": "", "before": stamps}
    if _note(trainer).is_file():
        note = read_json(_note(trainer))
    if not place.restarts and not (place.run and note["run"] == place.run):
        write_json(_note(trainer), {"run": place.run, "before": stamps})
        return None
    return next((path for path in there if note["before"].get(path.name) != stamps[path.name]), None)


def _note(trainer: Any) -> Path:
    return Path(trainer.output_folder) / _BEFORE


def load_weights(network: torch.nn.Module, file: Path) -> None:
    """Load all but the segmentation heads, as nnU-Net does; that loads onto the GPU with the number of the rank."""
    inner = unwrapped(network)
    stored, own = read_pretrained(file).tensors, inner.state_dict()
    wanted = {name: stored.get(canonical_name(name)) for name in own if not is_head(name)}
    unfit = [name for name, tensor in wanted.items() if tensor is None or tensor.shape != own[name].shape]
    if unfit:
        raise TrainingError(
            f"{file} does not fit this network: {len(unfit)} of {len(wanted)} tensors are missing or of another shape, "
            f"the first is {unfit[0]}. Fit it first: nnunet-volf weights adapt."
        )
    inner.load_state_dict({**own, **wanted})


def _take_device(device: str, place: Place) -> None:
    if device != "cuda":
        return
    torch.set_num_threads(1)  # as nnUNetv2_train: threads do not help on a GPU
    if torch.cuda.device_count() < place.local_ranks:
        raise TrainingError(
            f"torchrun started {place.local_ranks} processes here, and this machine has {torch.cuda.device_count()} "
            f"GPUs. Give it --nproc-per-node {max(1, torch.cuda.device_count())}, or train with -device cpu."
        )
    torch.cuda.set_device(place.local_rank)


@contextlib.contextmanager
def _group(device: str, place: Place) -> Iterator[None]:
    """Meet the other processes, part from them in good order, and end; who fails leaves it to torchrun to stop them."""
    store, _, _ = next(rendezvous("env://"))
    store = PrefixStore(meeting(store, place), store)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.ranks)
    code = 0
    try:
        yield
    except SystemExit as stopped:  # all have stopped together, and everything is saved
        code = stopped.code if isinstance(stopped.code, int) else 1
    dist.destroy_process_group()
    leave(code)


def leave(code: int) -> NoReturn:
    """End this process as Python would, but at once.

    The threads of gloo outlive a group that DistributedDataParallel has used (seen in torch 2.15). One that still frees
    a tensor while the interpreter is taken down aborts the process, and a training that is done looks like a crash.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def meeting(store: Any, place: Place, seconds: float = 600.0) -> str:
    """Return a name that rank 0 and this rank have agreed on, and no process that is gone knew.

    torch 2.5 and later keep one store over restarts, with the addresses of the processes that were there before; and
    the machines count restarts each for itself.
    """
    own = uuid4().hex
    if place.rank == 0:
        store.set("meeting", own)
        for rank in range(1, place.ranks):
            store.add(f"{own}/welcome/{store.get(f'{own}/here/{rank}').decode()}", 1)
        return own
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        name: str = store.get("meeting").decode()
        store.set(f"{name}/here/{place.rank}", own)
        patience = monotonic() + 1
        while monotonic() < patience and not store.add(f"{name}/welcome/{own}", 0):  # torch 2.1 has no store.check
            sleep(0.05)
        if store.add(f"{name}/welcome/{own}", 0):
            return name
    raise TrainingError(f"Rank 0 did not answer rank {place.rank} for {seconds:.0f} s. Look at its output first.")


@contextlib.contextmanager
def _quiet_but_rank_0(place: Place) -> Iterator[None]:
    """Let one process talk; the others would say the same, and their errors go where errors go."""
    if place.rank == 0:
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
