"""The network that weights are wanted for: a dataset's, as one of its plans describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_volf.datasets import PREPROCESSED, dataset_number, find_dataset
from nnunet_volf.described import read_dataset_json
from nnunet_volf.errors import VolFError, WeightsError
from nnunet_volf.plans import planned_dataset, plans_in
from nnunet_volf.printable import shortened
from nnunet_volf.weights.names import canonical
from nnunet_volf.weights.pretrained import Architecture, Preparation


@dataclass(frozen=True)
class Task:
    """A dataset, a plan, a configuration, and what the tensors of their network are called and shaped like."""

    dataset: str
    plans_name: str
    configuration: str
    preparation: Preparation
    architecture: Architecture
    segmentation_inputs: int  # channels after the images': the stage before, in a cascade
    heads: int
    stored_shapes: Mapping[str, tuple[int, ...]]  # by every name that nnU-Net stores a tensor under
    shapes: Mapping[str, tuple[int, ...]]  # by the one name of each tensor
    first_layer: str  # the weight that sees the image
    init_args: Mapping[str, Any]  # plans, configuration and dataset, as nnU-Net's checkpoints hold them

    @property
    def number(self) -> int:
        """Return 4 for ``Dataset004_Hippocampus``."""
        return dataset_number(self.dataset)

    def network(self, seed: int = 0) -> nn.Module:
        """Build the network on the CPU, initialised as nnU-Net does; the same seed gives the same network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._build(initialize=True)

    def _build(self, initialize: bool) -> nn.Module:
        inputs = len(self.preparation.channels) + self.segmentation_inputs
        return build_network(self.architecture, inputs, self.heads, initialize)


def build_network(architecture: Architecture, inputs: int, heads: int, initialize: bool) -> nn.Module:
    """Build a network as nnU-Net does from its plans."""
    network: nn.Module = get_network_from_plans(
        architecture.class_name,
        dict(architecture.arguments),
        list(architecture.needs_import),
        inputs,
        heads,
        allow_init=initialize,
        deep_supervision=True,
    )
    return network


def network_shapes(architecture: Architecture, inputs: int, heads: int) -> tuple[dict[str, tuple[int, ...]], str]:
    """Return the shape of every stored tensor, and the name of the weight that sees the image, without memory."""
    with torch.device("meta"):
        network = build_network(architecture, inputs, heads, initialize=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    first = next(name for name, module in network.named_modules() if isinstance(module, _CONVOLUTIONS))
    return shapes, f"{first}.weight"


_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def task_of_dataset(dataset: str, plans_name: str, configuration: str) -> Task:
    """Return the task that a preprocessed dataset is planned for."""
    planned = planned_dataset(dataset, plans_name)
    planned.configuration(configuration)  # says which there are
    return task_of_plans(planned.plans, configuration, read_dataset_json(planned.folder / "dataset.json"))


def other_tasks(task: Task) -> Iterator[Task]:
    """Return the same configuration as the dataset's other plans have it."""
    for name in plans_in(find_dataset(task.dataset, PREPROCESSED)):
        planned = planned_dataset(task.dataset, name)
        if name != task.plans_name and task.configuration in planned.plans["configurations"]:
            yield task_of_dataset(task.dataset, name, task.configuration)


def task_of_trainer(trainer: Any) -> Task:
    """Return the task that one of nnU-Net's trainers is made for."""
    return task_of_plans(trainer.plans_manager.plans, trainer.configuration_name, trainer.dataset_json)


def task_of_plans(plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]) -> Task:
    """Return the task that plans and a description of a dataset describe, or say why they describe none."""
    try:
        return _described(plans, configuration, dataset_json)
    except VolFError:
        raise
    except Exception as error:  # nnU-Net and the networks look at nothing before they use it
        name, dataset = (shortened(str(plans.get(key))) for key in ("plans_name", "dataset_name"))
        raise WeightsError(
            f"The plans {name} for {dataset} describe no network for its channels and labels "
            f"({type(error).__name__}: {shortened(str(error), 200)}). Plan the dataset again."
        ) from error


def _described(plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]) -> Task:
    manager = PlansManager(plans)
    planned = manager.get_configuration(configuration)
    architecture = architecture_of(planned.configuration)
    preparation = preparation_of(plans, planned.configuration, dataset_json)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    inputs = determine_num_input_channels(manager, planned, dataset_json)
    stored, first = network_shapes(architecture, inputs, heads)
    return Task(
        dataset=plans["dataset_name"],
        plans_name=plans["plans_name"],
        configuration=configuration,
        preparation=preparation,
        architecture=architecture,
        segmentation_inputs=inputs - len(preparation.channels),
        heads=heads,
        stored_shapes=stored,
        shapes=canonical(stored),
        first_layer=first,
        init_args={"plans": plans, "configuration": configuration, "fold": "all", "dataset_json": dataset_json},
    )


def architecture_of(configuration: Mapping[str, Any]) -> Architecture:
    """Return the network of a configuration (with what it inherits)."""
    described = configuration["architecture"]
    return Architecture(
        described["network_class_name"], described["arch_kwargs"], tuple(described["_kw_requires_import"])
    )


def preparation_of(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], dataset_json: Mapping[str, Any]
) -> Preparation:
    """Return how a configuration (with what it inherits) has images prepared."""
    names = dataset_json.get("channel_names") or dataset_json["modality"]
    channels = [str(names[key]) for key in sorted(names, key=int)]
    known = plans.get("foreground_intensity_properties_per_channel") or {}
    return Preparation(
        channels=tuple(channels),
        normalization=tuple(configuration["normalization_schemes"]),
        spacing=tuple(float(side) for side in configuration["spacing"]),
        patch=tuple(int(side) for side in configuration["patch_size"]),
        intensities=tuple(known[str(index)] for index in range(len(channels)) if str(index) in known),
    )
