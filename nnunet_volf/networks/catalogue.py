"""The networks that can be asked for by name, as data, and how nnU-Net's plans describe them.

nnU-Net's planner decides on stages, kernels and strides from spacing and patch; the widths belong to the network. So
planning for less memory makes patches smaller and leaves the widths, which is what keeps published weights usable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_volf.errors import SettingsError
from nnunet_volf.networks.context_plans import has_context, without_context


@dataclass(frozen=True)
class Network:
    """What is the same in all plans of a network."""

    name: str  # on the command line
    title: str  # in text
    class_path: str
    widths: tuple[int, ...]  # features of the stages from the image on
    dimensions: tuple[int, ...]  # of the images that it is made for
    normalised_by: str | None = None  # the norm_op in plans, of a network that takes one
    attention: bool = False
    imported: tuple[str, ...] = field(default=("conv_op",))

    @property
    def class_name(self) -> str:
        """Return ``PCTNet``, which is also its part of the names of plans."""
        return self.class_path.rsplit(".", 1)[-1]


# Widths: of all published configurations and weights (MIS-FM: PCT-Net's configuration files; VolF: FMUNet's defaults).
NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network(
            name="pctnet",
            title="PCT-Net",
            class_path="nnunet_volf.networks.PCTNet",
            widths=(24, 48, 128, 256, 512),
            dimensions=(3,),
            normalised_by="torch.nn.modules.instancenorm.InstanceNorm3d",
            attention=True,
            imported=("conv_op", "norm_op"),
        ),
        Network(
            name="fmunet",
            title="FMUNet",
            class_path="nnunet_volf.networks.FMUNet",
            widths=(32, 64, 128, 256, 512),
            dimensions=(2, 3),
        ),
    )
}


def architecture_entry(
    network: Network, n_stages: int, kernel_sizes: Sequence[Any], strides: Sequence[Any], conv_op: str
) -> dict[str, Any]:
    """Return what stands under "architecture" in plans, for a topology as nnU-Net's planner has it."""
    if n_stages < 2:
        raise SettingsError(
            f"{network.title} needs two stages or more, and the patch that was planned allows {n_stages}: the images, "
            "or the memory to plan for, are too small for it."
        )
    arguments: dict[str, Any] = {
        "n_stages": n_stages,
        "features_per_stage": features_of(network, n_stages),
        "conv_op": conv_op,
        "kernel_sizes": [[int(side) for side in kernel] for kernel in kernel_sizes],
        "strides": [[int(step) for step in stride] for stride in strides],
    }
    if network.normalised_by is not None:
        arguments |= {"norm_op": network.normalised_by, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    return {
        "network_class_name": network.class_path,
        "arch_kwargs": arguments,
        "_kw_requires_import": list(network.imported),
    }


def features_of(network: Network, n_stages: int) -> list[int]:
    """Return the features of each stage; further stages than the network is known with have as many as its last."""
    return [*network.widths[:n_stages], *[network.widths[-1]] * (n_stages - len(network.widths))]


def first_with_attention(n_stages: int) -> int:
    """Return the stage from which on PCT-Net attends; the finest two stages have too many voxels for it."""
    return min(2, n_stages - 1)


def network_of(architecture: Mapping[str, Any]) -> Network | None:
    """Return which of these networks a plan's "architecture" entry has, if it is one of them."""
    path = without_context(architecture)["network_class_name"]
    return next((network for network in NETWORKS.values() if network.class_path == path), None)


def network_in(plans: Mapping[str, Any]) -> Network | None:
    """Return which of these networks plans were made with; a 2D configuration beside it may have another."""
    entries = (made["architecture"] for made in plans["configurations"].values() if "architecture" in made)
    return next((found for found in map(network_of, entries) if found is not None), None)


def architecture_planned(plans: Mapping[str, Any], configuration: str) -> Mapping[str, Any] | None:
    """Return the "architecture" entry of a configuration of plans, its own or that of the one it inherits from."""
    own: Mapping[str, Any] = plans.get("configurations", {}).get(configuration, {})
    if "architecture" in own:
        architecture: Mapping[str, Any] = own["architecture"]
        return architecture
    return architecture_planned(plans, own["inherits_from"]) if "inherits_from" in own else None


def network_planned(plans: Mapping[str, Any], configuration: str) -> Network | None:
    """Return which of these networks a configuration of plans has, by itself or from the one it inherits from."""
    architecture = architecture_planned(plans, configuration)
    return None if architecture is None else network_of(architecture)


def context_planned(plans: Mapping[str, Any], configuration: str) -> bool:
    """Say whether a configuration of plans has a context block, by itself or from the one it inherits from."""
    architecture = architecture_planned(plans, configuration)
    return architecture is not None and has_context(architecture)


def plans_name_with(network: Network | None, planners_name: str, context: bool = False) -> str:
    """Return the name of a planner's plans with another network: nnUNetPCTNetLPlans for nnUNetResEncUNetLPlans.

    With a context block it is nnUNetPCTNetLContextPlans, and with nnU-Net's own network nnUNetResEncUNetLContextPlans.
    """
    name = planners_name
    if network is not None:
        plain = name.replace("ResEncUNet", "")
        name = re.sub(r"^(nnUNet)?", lambda start: f"{start[0]}{network.class_name}", plain, count=1)
    return re.sub(r"(?=Plans|$)", "Context", name, count=1) if context else name


def require_dimensions(network: Network, configuration: str, dimensions: int) -> None:
    """Refuse a network that there is not for images of so many dimensions."""
    if dimensions in network.dimensions:
        return
    others = [other.name for other in NETWORKS.values() if dimensions in other.dimensions]
    raise SettingsError(
        f"-c {configuration} --architecture {network.name}: {network.title} is a network for "
        f"{_dimensions(network)} and {configuration} is {dimensions}D. In {dimensions}D there is "
        f"--architecture {' or '.join(others)}, or leave it out for nnU-Net's own network."
    )


def describe_network(architecture: Mapping[str, Any]) -> str:
    """Say in a line what network a plan's "architecture" entry describes, ours or nnU-Net's."""
    if has_context(architecture):
        return f"{describe_network(without_context(architecture))}, and a context block"
    network, arguments = network_of(architecture), architecture["arch_kwargs"]
    features = arguments["features_per_stage"]
    title = network.title if network else architecture["network_class_name"].rsplit(".", 1)[-1]
    text = f"{title}, {len(features)} stages, {features[0]} to {max(features)} features"
    if network is None or not network.attention:
        return text
    attending = len(features) - first_with_attention(len(features))
    return f"{text}, attention in the {attending} coarsest" if attending > 1 else f"{text}, attention in the coarsest"


def _dimensions(network: Network) -> str:
    return " and ".join(f"{number}D" for number in network.dimensions)
