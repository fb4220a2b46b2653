"""A checkpoint reduced to what others need of it: the network, and plans that describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_volf.durable import STATE_KEY
from nnunet_volf.errors import WeightsError
from nnunet_volf.printable import shortened
from nnunet_volf.weights.architectures import check_buildable
from nnunet_volf.weights.dialects.tensors import tensors_of
from nnunet_volf.weights.dialects.values import mapping
from nnunet_volf.weights.names import canonical_name, is_head
from nnunet_volf.weights.pretrained import Architecture
from nnunet_volf.weights.reading import Opened
from nnunet_volf.weights.shareable import left_out, shareable_dataset, shareable_notes, shareable_plans
from nnunet_volf.weights.target import Task, architecture_of, task_of_plans


@dataclass(frozen=True)
class Portable:
    """What goes out, the task whose network it is, and what stays behind."""

    checkpoint: dict[str, Any]
    task: Task
    left_out: tuple[str, ...]

    @property
    def plans(self) -> dict[str, Any]:
        """The plans that go out."""
        plans: dict[str, Any] = self.checkpoint["init_args"]["plans"]
        return plans


def portable(opened: Opened, with_heads: bool = False) -> Portable:
    """Reduce a checkpoint to tensors and plain types, and prove that its plans describe the network that is in it.

    Optimiser, gradient scaler, random state, curves and device stay behind, and with them all pickled objects.
    """
    content = opened.content if isinstance(opened.content, Mapping) else {}
    init = mapping(content.get("init_args"))
    described = [name for name in ("plans", "configuration", "dataset_json") if name in init]
    if "network_weights" not in content or len(described) < 3:
        raise WeightsError(
            f"{opened.path} is no checkpoint of nnU-Net or of this package: such a file holds its weights, plans and "
            f"dataset, and this one {_holds(content, described)}. Make one for a dataset of yours: "
            f"nnunet-volf weights adapt {opened.path} -d DATASET -o NEW.pth"
        )
    if not all(isinstance(part, Mapping) for part in (init["plans"], init["dataset_json"], content["network_weights"])):
        raise WeightsError(f"{opened.path} is not exported. Its weights, plans or dataset are no entries by name.")
    plans, dataset = shareable_plans(init["plans"]), shareable_dataset(init["dataset_json"])
    try:
        if opened.how != "trusted":
            check_buildable(_architecture(plans, init["configuration"]))
        task = task_of_plans(plans, init["configuration"], dataset)
    except WeightsError as error:
        own = "" if opened.how == "trusted" else " If the file is your own: --trust."
        raise WeightsError(f"{opened.path} is not exported. {error}{own}") from error
    shared_notes = shareable_notes(mapping(content.get(STATE_KEY)))
    tensors, _ = tensors_of(opened.path, content["network_weights"])
    axes, trainer = content.get("inference_allowed_mirroring_axes"), content.get("trainer_name")
    checkpoint = {
        "network_weights": named_as_nnunet_does(tensors, task, opened, with_heads),
        "trainer_name": None if trainer is None else str(trainer),
        "init_args": {
            "plans": plans,
            "configuration": str(init["configuration"]),
            "fold": init.get("fold", "all"),
            "dataset_json": dataset,
        },
        "inference_allowed_mirroring_axes": None if axes is None else tuple(int(axis) for axis in axes),
        "current_epoch": content.get("current_epoch"),
        **({STATE_KEY: shared_notes} if shared_notes else {}),
    }
    stayed = (
        *left_out(init["plans"], plans, "plans: "),
        *left_out(init["dataset_json"], dataset, "dataset.json: "),
    )
    return Portable(checkpoint, task, stayed)


def _architecture(plans: Mapping[str, Any], configuration: Any) -> Architecture:
    """Return the network that a stranger's plans name, which need not have the form of plans."""
    try:
        return architecture_of(PlansManager(dict(plans)).get_configuration(configuration).configuration)
    except Exception as error:  # nnU-Net looks at nothing before it uses it
        raise WeightsError(
            f"Its plans cannot be followed ({type(error).__name__}: {shortened(str(error), 200)})."
        ) from error


def named_as_nnunet_does(
    tensors: Mapping[str, Tensor], task: Task, opened: Opened, with_heads: bool
) -> dict[str, Tensor]:
    """Return the network's tensors under every name that nnU-Net stores them by, or say what does not fit its plans.

    nnU-Net lists the same parameter several times. Here each is one tensor with a memory of its own, so it is written
    once, and nothing else that shared its memory is written with it.
    """
    wanted = {name: shape for name, shape in task.shapes.items() if with_heads or name in tensors or not is_head(name)}
    problems = [f"{name} is not in the file" for name in wanted if name not in tensors]
    problems += [f"{name} is in the file and not in the network" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {tuple(tensors[name].shape)} in the file and {shape} in the network"
        for name, shape in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        raise WeightsError(
            f"{opened.path} does not hold the network that its plans describe ({task.configuration} of "
            f"{task.plans_name}, {len(wanted)} tensors). {len(problems)} do not fit, the first: "
            f"{shortened(problems[0], 200)}. Export the checkpoint as its training wrote it."
        )
    own = {name: tensors[name].detach().cpu().contiguous().clone() for name in wanted}
    return {name: own[canonical_name(name)] for name in task.stored_shapes if canonical_name(name) in own}


def _holds(content: Mapping[str, Any], described: list[str]) -> str:
    there = (["weights"] if "network_weights" in content else []) + described
    return f"holds {' and '.join(there)}" if there else "holds none of them"
