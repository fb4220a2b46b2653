"""A file that nnU-Net's own ``-pretrained_weights`` takes for a task, made from one that it would not take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.choices import ADAPTED, CARRIED, HEAD
from nnunet_volf.weights.matching import Match
from nnunet_volf.weights.names import canonical_name, is_head
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.record import write_weights
from nnunet_volf.weights.shareable import shareable_dataset, shareable_plans
from nnunet_volf.weights.target import Task
from nnunet_volf.weights.trained import ENCODER


def adapt(pretrained: Pretrained, matched: Match, task: Task, output: Path, seed: int = 0) -> None:
    """Write the weights that a task's network starts from.

    What cannot be taken over is there too, initialised as nnU-Net does, which asks for every tensor but the heads'.
    """
    if not matched.share(CARRIED, ADAPTED):
        raise WeightsError(
            f"{pretrained.path} has nothing that {task.dataset}, {task.plans_name}, {task.configuration} could start "
            f"from. See why, tensor by tensor: nnunet-volf weights check {pretrained.path} -d {task.number} "
            f"-p {task.plans_name} -c {task.configuration} -v"
        )
    values = {row.name: row.value for row in matched.rows if row.value is not None}
    weights = {
        name: values.get(canonical_name(name), fresh).to(fresh.dtype).contiguous()
        for name, fresh in task.network(seed).state_dict().items()
        if not is_head(name)
    }
    record = _record(matched, task, seed)
    note = (
        f"Adapted for {task.dataset}, {task.plans_name}, {task.configuration}: {record['share']:.1%} of the network "
        "is pretrained, the rest is initialised anew."
    )
    trained = pretrained.trained if matched.scope == "all" else (ENCODER,)
    known = replace(pretrained, trained=trained)
    write_weights(output, weights, known, _shareable(task.init_args), (note,), adapted=record)


def _shareable(init_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the network without the cases and places that a dataset's description may hold."""
    plans, dataset = shareable_plans(init_args["plans"]), shareable_dataset(init_args["dataset_json"])
    return {**init_args, "plans": plans, "dataset_json": dataset}


def _record(matched: Match, task: Task, seed: int) -> dict[str, Any]:
    return {
        "dataset": task.dataset,
        "plans": task.plans_name,
        "configuration": task.configuration,
        "scope": matched.scope,
        "channels": matched.channels,
        "seed": seed,
        "share": matched.share_of_network(CARRIED, ADAPTED),
        "changed": {row.name: row.detail for row in matched.rows if row.outcome not in (CARRIED, HEAD)},
    }
