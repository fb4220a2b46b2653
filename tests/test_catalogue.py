"""The networks that can be asked for by name, and what plans say of them for any topology of nnU-Net's planner."""

from __future__ import annotations

import json
import subprocess
import sys
from pydoc import locate
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_volf.errors import SettingsError
from nnunet_volf.networks.catalogue import (
    NETWORKS,
    architecture_entry,
    describe_network,
    features_of,
    network_in,
    network_of,
    network_planned,
    plans_name_with,
    require_dimensions,
)

PCTNET, FMUNET = NETWORKS["pctnet"], NETWORKS["fmunet"]
STEP = st.sampled_from([0.3, 0.5, 0.75, 0.9765625, 1.0, 1.5, 2.5, 3.0, 5.0])
CONVOLUTIONS = {2: "torch.nn.modules.conv.Conv2d", 3: "torch.nn.modules.conv.Conv3d"}
ISOTROPIC = {
    "kernel_sizes": ((3, 3, 3),) * 3,
    "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    "conv_op": CONVOLUTIONS[3],
}


def entry_of(name: str, stages: int, dimensions: int = 3) -> dict[str, Any]:
    strides = [[1] * dimensions, *[[2] * dimensions] * (stages - 1)]
    kernels = [[3] * dimensions] * stages
    return architecture_entry(NETWORKS[name], stages, kernels, strides, CONVOLUTIONS[dimensions])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_class_that_plans_name_is_found_as_nnunet_looks_for_it_and_is_called_as_the_plans_are(name: str) -> None:
    found: Any = locate(NETWORKS[name].class_path)
    assert issubclass(found, torch.nn.Module)
    assert found.__name__ == NETWORKS[name].class_name


def test_an_entry_is_what_plans_hold_and_nothing_json_would_change() -> None:
    entry = architecture_entry(PCTNET, 3, np.full((3, 3), 3), ISOTROPIC["strides"], CONVOLUTIONS[3])
    assert entry == {
        "network_class_name": "nnunet_volf.networks.PCTNet",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [24, 48, 128],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op"],
    }
    assert json.loads(json.dumps(entry)) == entry
    fmunet = architecture_entry(FMUNET, 3, **ISOTROPIC)
    assert fmunet["network_class_name"] == "nnunet_volf.networks.FMUNet"
    assert "norm_op" not in fmunet["arch_kwargs"]
    assert fmunet["_kw_requires_import"] == ["conv_op"]


@pytest.mark.parametrize(
    ("stages", "pctnet", "fmunet"),
    [
        (2, [24, 48], [32, 64]),
        (5, [24, 48, 128, 256, 512], [32, 64, 128, 256, 512]),
        (7, [24, 48, 128, 256, 512, 512, 512], [32, 64, 128, 256, 512, 512, 512]),
    ],
)
def test_widths_are_the_published_ones_cut_or_continued(stages: int, pctnet: list[int], fmunet: list[int]) -> None:
    assert features_of(PCTNET, stages) == pctnet
    assert features_of(FMUNET, stages) == fmunet


@pytest.mark.parametrize("name", NETWORKS)
def test_a_patch_that_cannot_be_halved_once_is_too_small_for_both_networks(name: str) -> None:
    with pytest.raises(SettingsError, match=r"needs two stages or more, and the patch that was planned allows 1: the"):
        entry_of(name, 1)


@pytest.mark.parametrize(("name", "dimensions", "stages"), [("pctnet", 3, 6), ("fmunet", 3, 6), ("fmunet", 2, 8)])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_whatever_topology_nnunet_plans_the_network_gives_outputs_of_the_scales_that_its_trainer_expects(
    name: str, dimensions: int, stages: int, data: st.DataObject
) -> None:
    spacing = data.draw(st.tuples(*[STEP] * dimensions))
    longest = 160 if dimensions == 3 else 512
    wanted = data.draw(st.tuples(*[st.integers(8, longest)] * dimensions))
    _, strides, kernels, patch, _ = get_pool_and_conv_props(spacing, wanted, 4, 999999)
    assume(2 <= len(strides) <= stages)
    entry = architecture_entry(NETWORKS[name], len(strides), kernels, strides, CONVOLUTIONS[dimensions])
    outputs = outputs_on_meta(json.loads(json.dumps(entry)), [int(side) for side in patch])
    scales = (1 / np.cumprod(np.vstack(strides), axis=0))[:-1]  # as nnUNetTrainer._get_deep_supervision_scales
    expected = [(2, 4, *(round(side * scale) for side, scale in zip(patch, each, strict=True))) for each in scales]
    assert outputs == expected


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("stages", range(2, 7))
def test_two_to_six_stages_are_built(name: str, stages: int) -> None:
    outputs = outputs_on_meta(entry_of(name, stages), [4 * 2 ** (stages - 1)] * 3)
    assert len(outputs) == stages - 1


def outputs_on_meta(entry: dict[str, Any], patch: list[int]) -> list[tuple[int, ...]]:
    """Build the network as nnU-Net's trainer does and return the shapes of its outputs; without memory for it."""
    names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    with torch.device("meta"):
        network = get_network_from_plans(
            *(entry[name] for name in names), 1, 4, allow_init=False, deep_supervision=True
        )
    with torch.no_grad():
        return [tuple(output.shape) for output in network(torch.empty(2, 1, *patch, device="meta"))]


@pytest.mark.parametrize(
    ("planners", "pctnet"),
    [
        ("nnUNetPlans", "nnUNetPCTNetPlans"),
        ("nnUNetResEncUNetMPlans", "nnUNetPCTNetMPlans"),
        ("nnUNetResEncUNetXLPlans", "nnUNetPCTNetXLPlans"),
        ("nnUNetResEncUNetLPlans_torchres", "nnUNetPCTNetLPlans_torchres"),
        ("MyPlans", "PCTNetMyPlans"),
    ],
)
def test_plans_are_named_as_nnunet_names_those_of_its_residual_network(planners: str, pctnet: str) -> None:
    assert plans_name_with(PCTNET, planners) == pctnet
    assert plans_name_with(FMUNET, planners) == pctnet.replace("PCTNet", "FMUNet")


def test_plans_tell_which_network_they_have() -> None:
    plain = {"architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet"}}
    plans = {
        "configurations": {
            "2d": plain,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres"},
            "3d_fullres": {"architecture": entry_of("pctnet", 3)},
        }
    }
    assert network_of(plain["architecture"]) is None
    assert network_in(plans) == PCTNET
    assert network_in({"configurations": {"2d": plain}}) is None
    found = {name: network_planned(plans, name) for name in (*plans["configurations"], "other")}
    assert found == {"2d": None, "3d_cascade_fullres": PCTNET, "3d_fullres": PCTNET, "other": None}


def test_two_dimensions_are_refused_for_a_network_without_them_and_it_is_said_which_has_them() -> None:
    with pytest.raises(SettingsError) as refused:
        require_dimensions(PCTNET, "2d", 2)
    assert str(refused.value) == (
        "-c 2d --architecture pctnet: PCT-Net is a network for 3D and 2d is 2D. In 2D there is --architecture fmunet, "
        "or leave it out for nnU-Net's own network."
    )
    require_dimensions(PCTNET, "3d_fullres", 3)
    for dimensions in (2, 3):
        require_dimensions(FMUNET, "any", dimensions)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (entry_of("pctnet", 5), "PCT-Net, 5 stages, 24 to 512 features, attention in the 3 coarsest"),
        (entry_of("pctnet", 3), "PCT-Net, 3 stages, 24 to 128 features, attention in the coarsest"),
        (entry_of("pctnet", 2), "PCT-Net, 2 stages, 24 to 48 features, attention in the coarsest"),
        (entry_of("fmunet", 4), "FMUNet, 4 stages, 32 to 256 features"),
        (
            {"network_class_name": "some.PlainConvUNet", "arch_kwargs": {"features_per_stage": [32, 320, 320]}},
            "PlainConvUNet, 3 stages, 32 to 320 features",
        ),
    ],
)
def test_a_network_is_described_in_a_line(entry: dict[str, Any], text: str) -> None:
    assert describe_network(entry) == text


@pytest.mark.parametrize("stages", [2, 3, 5])
def test_the_stages_that_are_said_to_attend_are_those_that_do(stages: int) -> None:
    entry = entry_of("pctnet", stages)
    with torch.device("meta"):
        network: Any = get_network_from_plans(*entry.values(), 1, 2, allow_init=False)
    attending = [stage for stage in network.encoder.stages if hasattr(stage.block, "attention")]
    said = describe_network(entry).rpartition("the ")[2]
    assert said == ("coarsest" if len(attending) == 1 else f"{len(attending)} coarsest")


def test_the_catalogue_is_read_without_loading_torch() -> None:
    code = "import sys, nnunet_volf.networks.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
