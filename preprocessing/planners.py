"""nnU-Net's planners, run beside the user's folders, with nnU-Net's network or one of ours."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.environment import variable
from nnunet_volf.errors import DataError, SettingsError, VolFError
from nnunet_volf.files import write_json
from nnunet_volf.networks.catalogue import Network, architecture_entry, plans_name_with
from nnunet_volf.networks.context_plans import with_context

from .failures import describe_error

DEFAULT_PLANNER = "ExperimentPlanner"

# nnU-Net's ExperimentPlanner: by dimensions, so many feature map values in a patch fill 8 GB, in batches of so many.
_PLAIN, _PLAIN_GIGABYTES = {2: (85_000_000, 12), 3: (560_000_000, 2)}, 8


@dataclass(frozen=True)
class Planner:
    """What plans are made by: one of nnU-Net's planners, a network of ours or None for its own, and options."""

    name: str = DEFAULT_PLANNER
    network: Network | None = None
    spacing: Sequence[float] | None = None
    memory: float | None = None  # GB of a GPU to plan for
    context: bool = False  # whether the network has a context block

    @property
    def plans_name(self) -> str:
        """Return what its plans are called if nobody says otherwise."""
        usual: str = inspect.signature(find_planner(self.name).__init__).parameters["plans_name"].default
        return plans_name_with(self.network, usual, self.context)

    @property
    def asked_for(self) -> str:
        """Return what its plans have that nnU-Net's own have not, in words; nothing for those."""
        title = self.network.title if self.network else ""
        return " and ".join(filter(None, [title, "a context block" if self.context else ""]))

    def plan(self, dataset: str, fingerprint: Mapping[str, Any], plans_name: str) -> dict[str, Any]:
        """Return the plans of a raw dataset for its fingerprint; nothing is written."""
        planner_class = find_planner(self.name)
        if self.network is not None or self.context:
            planner_class = planner_with(planner_class, self.network, self.context)
        options: dict[str, Any] = {} if self.memory is None else {"gpu_memory_target_in_gb": self.memory}
        if self.spacing is not None:
            options["overwrite_target_spacing"] = [float(step) for step in self.spacing]
        try:
            with _elsewhere(dataset, fingerprint), _some_threads(), _quietly():
                made = planner_class(dataset, plans_name=plans_name, **options).plan_experiment()
        except VolFError:
            raise
        except Exception as error:  # nnU-Net looks at nothing that it is given before it computes with it
            raise DataError(
                f"{self.name} makes no plans for {dataset} ({describe_error(error)}). Look whether its dataset.json "
                "and its fingerprint are as nnU-Net wants them."
            ) from error
        plans: dict[str, Any] = json.loads(json.dumps(made))  # as a file gives them back, so that equal ones are equal
        return plans

    def __str__(self) -> str:
        """Say what plans are made by."""
        return f"{self.name} with {self.asked_for}" if self.asked_for else self.name


def find_planner(name: str) -> Any:
    """Return one of nnU-Net's planner classes."""
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = Path(nnunetv2.__path__[0]) / "experiment_planning"
    planner_class = recursive_find_python_class(str(folder), name, "nnunetv2.experiment_planning")
    if planner_class is None:
        raise SettingsError(
            f"nnU-Net has no planner {name!r}. Its presets are ExperimentPlanner, nnUNetPlannerResEncM, "
            "nnUNetPlannerResEncL and nnUNetPlannerResEncXL."
        )
    return planner_class


def planner_with(base: Any, network: Network | None, context: bool) -> Any:
    """Return one of nnU-Net's planners with another network, for which it then chooses patch and batch size.

    The memory to plan for and the rule for batches are the base's. How many feature map values are taken to fill that
    memory is a number that nnU-Net has found for each of its networks. The residual planners' is higher than the
    plain one's, since a residual network keeps less of what is counted. Ours count in the plain network's measure
    (equal numbers need equal memory), so the plain planner's number is the one that belongs to them. A context block
    about nnU-Net's own network changes nothing about that network, whose number stays.
    """
    dimensions = network.dimensions if network else ()

    def planned(architecture: Mapping[str, Any], patch_size: Sequence[int]) -> Mapping[str, Any]:
        """Return what is planned where nnU-Net has its own network, with such a topology."""
        if network is not None and len(patch_size) in dimensions:
            architecture = _entry(network, architecture["arch_kwargs"])
        return with_context(architecture, patch_size) if context else architecture

    class PlannerWithNetwork(base):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            _count_as_plain_networks_do(self, dimensions)

        def static_estimate_VRAM_usage(  # noqa: N802 - nnU-Net's name
            self, patch_size: Sequence[int], inputs: int, outputs: int, path: str, arguments: Any, imported: Any
        ) -> int:
            if context or len(patch_size) in dimensions:
                usual = {"network_class_name": path, "arch_kwargs": arguments, "_kw_requires_import": imported}
                return _feature_map_size(planned(usual, patch_size), patch_size, inputs, outputs)
            return int(super().static_estimate_VRAM_usage(patch_size, inputs, outputs, path, arguments, imported))

        def get_plans_for_configuration(self, spacing: Sequence[float], *args: Any) -> dict[str, Any]:
            plan: dict[str, Any] = super().get_plans_for_configuration(spacing, *args)
            return {**plan, "architecture": planned(plan["architecture"], plan["patch_size"])}

        def generate_data_identifier(self, configuration_name: str) -> str:
            usual = super().generate_data_identifier(configuration_name)
            return _data_identifier(self, usual, configuration_name)

    # The plans say which of nnU-Net's planners made them; which network, their configurations say.
    PlannerWithNetwork.__name__ = base.__name__
    return PlannerWithNetwork


def _count_as_plain_networks_do(planner: Any, dimensions: Sequence[int]) -> None:
    """Take over how many feature map values, in how large a batch, the plain planner has fill a memory."""
    gigabytes = planner.UNet_reference_val_corresp_GB / _PLAIN_GIGABYTES
    for number in dimensions:
        values, batch = _PLAIN[number]
        setattr(planner, f"UNet_reference_val_{number}d", values * gigabytes)
        setattr(planner, f"UNet_reference_val_corresp_bs_{number}d", batch)


def _data_identifier(planner: Any, usual: str, configuration: str) -> str:
    """Return the name of the folder for preprocessed data.

    The network does not shape voxels, so what is preprocessed for nnU-Net's usual plans serves, as it does for its
    residual presets; but for 3d_lowres, whose spacing follows from the patch.
    """
    own = f"{planner.plans_identifier}_{configuration}"
    if planner.overwrite_target_spacing is not None:
        return own
    plain = type(planner).__name__ == DEFAULT_PLANNER  # which it has from its base
    return f"nnUNetPlans_{configuration}" if plain and configuration in ("2d", "3d_fullres") else usual


def _entry(network: Network, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network's entry for the topology of a plain network's arguments."""
    topology = (arguments[name] for name in ("n_stages", "kernel_sizes", "strides", "conv_op"))
    return architecture_entry(network, *topology)


def _feature_map_size(entry: Mapping[str, Any], patch_size: Sequence[int], inputs: int, outputs: int) -> int:
    """Return nnU-Net's measure of the memory for a patch; on torch's meta device, which takes no memory for it."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    with torch.device("meta"):
        network = get_network_from_plans(*(entry[name] for name in names), inputs, outputs, allow_init=False)
    return int(network.compute_conv_feature_map_size([int(side) for side in patch_size]))


@contextlib.contextmanager
def _elsewhere(dataset: str, fingerprint: Mapping[str, Any]) -> Iterator[None]:
    """Let a planner write its files into a folder that is then removed: what there is must be compared first."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / dataset).mkdir()
        write_json(Path(folder) / dataset / "dataset_fingerprint.json", fingerprint)
        with variable("nnUNet_preprocessed", folder):
            yield


def _some_threads() -> contextlib.AbstractContextManager[None]:
    """Let nnU-Net's planner set torch's threads to the number of loader workers, which may be 0 for training."""
    name = "nnUNet_n_proc_DA"
    return variable(name, "1") if os.environ.get(name) == "0" else contextlib.nullcontext()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep nnU-Net's pages of output back, and the residual presets' warning of a memory that was asked for."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="WARNING: You are running nnUNetPlanner")
        yield
