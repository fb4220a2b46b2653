"""The commands that use pretrained weights, filled in: one text for the commands, logs and errors that print them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_volf.datasets import dataset_number
from nnunet_volf.networks.catalogue import Network, context_planned, network_planned, plans_name_with
from nnunet_volf.plans import DEFAULT_PLANS, TARGET_KEY
from nnunet_volf.pretext.catalogue import DEFAULT_METHOD

FINE_TUNER = "nnUNetTrainerVolFFineTune"


def fine_tune_command(dataset: int | str, plans_name: str, configuration: str, weights: Path | str) -> str:
    """Return the command that fine-tunes from weights that fit."""
    return (
        f"nnUNetv2_train {dataset} {configuration} 0 -p {plans_name} -tr {FINE_TUNER} "
        f"-pretrained_weights {shlex.quote(str(weights))}"
    )


def adapt_command(
    weights: Path | str,
    dataset: int | str,
    plans_name: str,
    configuration: str,
    output: Path | str,
    scope: str = "all",
    channels: str = "name",
) -> str:
    """Return the command that makes weights fit a task."""
    rules = "" if scope == "all" else f" --scope {scope}"
    rules += "" if channels == "name" else f" --channels {channels}"
    return (
        f"nnunet-volf weights adapt {shlex.quote(str(weights))} -d {dataset} -p {plans_name} "
        f"-c {configuration}{rules} -o {shlex.quote(str(output))}"
    )


def pretrain_command(dataset: int | str, plans_name: str, configuration: str, pretext: str = DEFAULT_METHOD) -> str:
    """Return the command that pretrains for a task."""
    method = "" if pretext == DEFAULT_METHOD else f" --pretext {pretext}"
    return f"nnunet-volf pretrain FOLDER --for {dataset} -p {plans_name} -c {configuration}{method}"


def train_command(dataset: int | str, plans_name: str, configuration: str) -> str:
    """Return the command that trains with nnU-Net's own trainer, from scratch."""
    return f"nnUNetv2_train {dataset} {configuration} 0 -p {plans_name}"


def plan_with_network_command(dataset: int | str, network: Network | None, context: bool = False) -> str:
    """Return the command that gives a labelled dataset plans with a network, or a context block, or both."""
    architecture = "" if network is None else f" --architecture {network.name}"
    return f"nnunet-volf plan -d {dataset}{architecture}{' --context-block' if context else ''}"


def plan_with_weights_command(weights: Path, dataset: int | str, plans_name: str, configuration: str) -> str:
    """Return the command that gives a dataset plans with the network of a file of weights."""
    return f"nnunet-volf weights plan {shlex.quote(str(weights))} -d {dataset} -p {plans_name} -c {configuration}"


def check_command(weights: Path, plans: Mapping[str, Any], configuration: str | None) -> str:
    """Return the command that compares weights with the dataset that their plans are for, where they say which."""
    file, target = shlex.quote(str(weights)), plans.get(TARGET_KEY, plans) or {}
    if "dataset_name" not in target:
        return f"nnunet-volf weights check {file} -d DATASET -c {configuration}"
    number, name = dataset_number(target["dataset_name"]), target["plans_name"]
    return f"nnunet-volf weights check {file} -d {number} -p {name} -c {configuration}"


def commands_after_pretraining(plans: Mapping[str, Any], configuration: str, checkpoint: Path) -> list[str]:
    """Return the commands that fine-tune from a checkpoint, on the dataset that the plans are for.

    An archive that was planned by itself is for any dataset, which its weights are fitted to first; and which first
    gets plans with the network, where that is one of ours or has a context block.
    """
    if TARGET_KEY in plans and plans[TARGET_KEY] is None:
        network, context = network_planned(plans, configuration), context_planned(plans, configuration)
        first = [plan_with_network_command("DATASET", network, context)] if network or context else []
        name = plans_name_with(network, DEFAULT_PLANS, context)
        task = ("DATASET", name, configuration)
        return [*first, adapt_command(checkpoint, *task, output="FILE"), fine_tune_command(*task, weights="FILE")]
    target = plans.get(TARGET_KEY, plans)
    number = dataset_number(target["dataset_name"])
    return [fine_tune_command(number, target["plans_name"], configuration, checkpoint)]


def benchmark_command(plans: Mapping[str, Any], configuration: str, checkpoint: Path) -> str | None:
    """Return the command that tells whether it helps the dataset that the plans are for, if they are for one."""
    target = plans.get(TARGET_KEY, plans)
    if target is None:
        return None
    number, name = dataset_number(target["dataset_name"]), target["plans_name"]
    return f"nnunet-volf benchmark {number} -p {name} -c {configuration} --pretrained {shlex.quote(str(checkpoint))}"
