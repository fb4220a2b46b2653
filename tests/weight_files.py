"""Tiny networks as nnU-Net's plans describe them, and files of their weights, for the tests of the weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nnunet_volf.networks.context_plans import with_context
from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.provenance import versions
from nnunet_volf.weights.names import canonical
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.target import Task, task_of_plans

UNET = "dynamic_network_architectures.architectures.unet"


def plans_of(
    *,
    network: str = "PlainConvUNet",
    features: Sequence[int] = (4, 6, 8),
    kernels: Sequence[Sequence[int]] | None = None,
    strides: Sequence[Sequence[int]] | None = None,
    dimensions: int = 3,
    convolutions: int = 1,
    name: str = "Dataset007_Liver",
    plans_name: str = "nnUNetPlans",
    channels: int = 1,
    context: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Return plans with one configuration, named 3d_fullres or 2d; `context` puts a context block into the network."""
    stages = len(features)
    residual = network == "ResidualEncoderUNet"
    arguments = {
        "n_stages": stages,
        "features_per_stage": list(features),
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [list(k) for k in kernels] if kernels else [[3] * dimensions] * stages,
        "strides": [list(s) for s in strides] if strides else [[1] * dimensions, *([[2] * dimensions] * (stages - 1))],
        "n_blocks_per_stage" if residual else "n_conv_per_stage": [convolutions] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16] * dimensions,
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "batch_dice": False,
        "architecture": {
            "network_class_name": f"{UNET}.{network}",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }
    if context:
        configuration["architecture"] = with_context(configuration["architecture"], configuration["patch_size"])
    return {
        "dataset_name": name,
        "plans_name": plans_name,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
        "configurations": {"3d_fullres" if dimensions == 3 else "2d": configuration},
    }


def task_of(*, channels: Sequence[str] = ("MRI",), labels: Sequence[str] = ("organ",), **plan: Any) -> Task:
    """Return the task of such plans for a dataset with these channels and labels."""
    plans = plans_of(channels=len(channels), **plan)
    return task_of_plans(plans, next(iter(plans["configurations"])), described(channels, labels))


def described(channels: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Return the description of a dataset."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {name: number for number, name in enumerate(("background", *labels))},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }


def weights_from(task: Task, seed: int = 1, path: str = "weights.pth") -> Pretrained:
    """Return what a file with that task's network in it would be, with every tensor random."""
    tensors = random_tensors(task, seed)
    return Pretrained(
        path=Path(path),
        kind="nnU-Net",
        opened="plain",
        tensors=canonical(tensors),
        stored={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        preparation=task.preparation,
        architecture=task.architecture,
    )


def random_tensors(task: Task, seed: int = 1) -> dict[str, torch.Tensor]:
    """Return random values for all of a network's tensors; those of one parameter are equal under all its names."""
    generator = torch.Generator().manual_seed(seed)
    one = {name: torch.randn(shape, generator=generator) for name, shape in task.shapes.items()}
    network = task.network()
    network.load_state_dict({name: one[next(iter(canonical({name: 0})))] for name in network.state_dict()})
    return dict(network.state_dict())


def write_planned(
    preprocessed: Path, *, channels: Sequence[str] = ("MRI",), labels: Sequence[str] = ("organ",), **plan: Any
) -> None:
    """Write what planning leaves of a dataset: a description, and plans under their name beside what is there."""
    plans = plans_of(channels=len(channels), **plan)
    folder = preprocessed / plans["dataset_name"]
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(described(channels, labels)), encoding="utf-8")
    (folder / f"{plans['plans_name']}.json").write_text(json.dumps(plans), encoding="utf-8")


def write_checkpoint(
    path: Path, *, channels: Sequence[str] = ("MRI",), labels: Sequence[str] = ("a", "b"), **plan: Any
) -> Path:
    """Write what matters of one of nnU-Net's checkpoints, with random weights."""
    plans = plans_of(channels=len(channels), **plan)
    configuration = next(iter(plans["configurations"]))
    task = task_of_plans(plans, configuration, described(channels, labels))
    init = {"plans": plans, "configuration": configuration, "fold": 0, "dataset_json": described(channels, labels)}
    torch.save(
        {
            "network_weights": random_tensors(task),
            "init_args": init,
            "trainer_name": "nnUNetTrainer",
            "current_epoch": 5,
        },
        path,
    )
    return path


def write_pretraining(path: Path, method: str, **plan: Any) -> Path:
    """Write what matters of a checkpoint of one of our pretrainings: one output, and its head beside the network."""
    content = torch.load(write_checkpoint(path, labels=(), **plan), weights_only=True)
    known = METHODS[method]
    content["trainer_name"] = known.trainer
    content["nnunet_volf"] = {
        "method": known.label,
        "transfers": list(known.transfers),
        "settings": {"epochs": 5},
        "data": {"cases": 80},
        "versions": versions(),
        "head": {"projector.weight": torch.full((3, 5), 0.12345)},
    }
    torch.save(content, path)
    return path
