"""nnU-Net's trainer as one of several processes, on one machine or many, on GPUs or on CPUs.

nnU-Net takes the rank of a process for the number of its GPU. That holds for the processes that it starts itself
(``-num_gpus``), all on one machine; on a second machine, and on CPUs, there is no such GPU.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_volf.errors import TrainingError
from nnunet_volf.ranks import Place, makers_first
from nnunet_volf.storage_errors import storage_error

if TYPE_CHECKING:  # the class that the mixin stands in front of
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Trainer
else:
    Trainer = object

# Newer releases of torch have given the argument another name.
_SENDING_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


class DistributedTraining(Trainer):
    """A mixin for nnU-Net trainers: each process on its own device, and files that are made by one of them.

    nnU-Net's attribute `local_rank` stays what it is in nnU-Net, the rank over all machines: 0 writes.
    """

    output_folder_base: str | None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the signature is nnU-Net's
    ) -> None:
        """Stay on the device that was asked for; nnU-Net's trainers take a GPU wherever there are several processes."""
        results = os.environ.get("nnUNet_results")
        if not results:
            raise TrainingError("nnUNet_results is not set. Set it to where nnU-Net keeps trained models.")
        try:
            with warnings.catch_warnings():  # of the scaler for a GPU that is not there
                warnings.filterwarnings("ignore", message=".*GradScaler is enabled, but CUDA is not available")
                super().__init__(plans, configuration, fold, dataset_json, device)
        except OSError as error:
            raise storage_error(error, Path(results)) or error from error
        if self.is_ddp:
            self.device = own_device(device.type)
            if device.type == "cpu":
                self.grad_scaler = None

    def initialize(self) -> None:
        """Refuse more processes than there are samples in a batch, and put the network on this process's device."""
        ranks, batch = dist.get_world_size() if self.is_ddp else 1, self.configuration_manager.batch_size
        if batch < ranks:
            raise TrainingError(
                f"{ranks} processes cannot share a batch of {batch}: each takes at least one sample. Start at most "
                f"{batch} processes, or raise batch_size of {self.configuration_name} in the plans."
            )
        with _wrapped_for(self.device) if self.is_ddp else nullcontext():
            super().initialize()
        if self.is_ddp and self.device.type == "cpu":
            _refuse_batch_norm(self.network)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Split as nnU-Net does; where there is no split yet, one process writes it and the others read it."""
        written = Path(self.preprocessed_dataset_folder_base) / "splits_final.json"
        with makers_first():
            before = written.is_file()
            try:
                split: tuple[list[str], list[str]] = super().do_split()
            except OSError:
                if not before:  # the half that a full disk has taken would be read by the next training
                    written.unlink(missing_ok=True)
                raise
        return split

    def on_train_start(self) -> None:
        """Start as nnU-Net does, which copies plans and fingerprint in every process; only rank 0's copies are kept."""
        if self.local_rank == 0:
            super().on_train_start()
            return
        folder: str | None = self.output_folder_base
        with TemporaryDirectory() as elsewhere:
            self.output_folder_base = elsewhere
            try:
                super().on_train_start()
            finally:
                self.output_folder_base = folder


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside distributed training and torch.compile, as nnU-Net unwraps it to load weights."""
    inner: nn.Module = network.module if isinstance(network, DistributedDataParallel) else network
    return inner._orig_mod if isinstance(inner, OptimizedModule) else inner


def own_device(kind: str) -> torch.device:
    """Return the device of this process of a distributed training."""
    place = Place.told_by(os.environ)
    number = dist.get_rank() if place is None else place.local_rank
    return torch.device("cuda", number) if kind == "cuda" else torch.device(kind)


@contextmanager
def _wrapped_for(device: torch.device) -> Iterator[None]:
    """Have nnU-Net wrap its network for a device.

    Buffers are not sent around: those of our networks are constants, and the statistics of shared batch norms are
    equal anyway. Where they are, processes that predict different numbers of validation cases wait for each other.
    """
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module  # noqa: N813 - nnU-Net's name

    def wrap(network: nn.Module, device_ids: object) -> nn.Module:
        numbers = [device.index] if device.type == "cuda" else None
        more: dict[str, Any] = {_SENDING_BUFFERS: False}
        return DistributedDataParallel(network, device_ids=numbers, **more)

    before, trainer_module.DDP = trainer_module.DDP, wrap
    try:
        yield
    finally:
        trainer_module.DDP = before


def _refuse_batch_norm(network: nn.Module) -> None:
    if any(isinstance(part, nn.SyncBatchNorm) for part in network.modules()):
        raise TrainingError(
            "This network has batch normalisation, which torch shares between processes on GPUs only. Train it on "
            "GPUs, or on the CPU in one process (without torchrun)."
        )
