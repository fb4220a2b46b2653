"""What `weights check` says where the networks of file and task work differently, though tensors fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from nnunet_volf.weights.network_differences import network_differences, of_other_kinds
from nnunet_volf.weights.pretrained import Architecture

STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
BATCH = "torch.nn.modules.batchnorm.BatchNorm3d"
INSTANCE = "torch.nn.modules.instancenorm.InstanceNorm3d"
PCT = Architecture("nnunet_volf.networks.PCTNet", {"strides": STRIDES, "norm_op": BATCH, "reference": True})
FM = Architecture("nnunet_volf.networks.FMUNet", {"strides": STRIDES, "reference": True})
UNET = Architecture(
    "dynamic_network_architectures.architectures.unet.PlainConvUNet", {"strides": STRIDES, "norm_op": INSTANCE}
)


def changed(architecture: Architecture, **arguments: Any) -> Architecture:
    return dataclasses.replace(architecture, arguments={**architecture.arguments, **arguments})


@pytest.mark.parametrize("network", [PCT, FM, UNET])
def test_one_network_differs_from_itself_in_nothing(network: Architecture) -> None:
    assert list(network_differences(network, network)) == []


def test_another_norm_is_told_with_what_stays_behind() -> None:
    said = list(network_differences(PCT, changed(PCT, norm_op=INSTANCE)))
    assert said == [
        "the file's network normalises by BatchNorm3d, the task's by InstanceNorm3d: scale and offset are carried "
        "over, the statistics of its training are not, so features start at another scale"
    ]
    said = list(network_differences(changed(PCT, norm_op=INSTANCE), PCT))
    assert said[0].endswith("scale and offset are carried over, and its statistics start anew")


def test_attending_to_padding_is_told_both_ways() -> None:
    now = changed(PCT, reference=False)
    assert list(network_differences(PCT, now)) == [
        "the file's network attends to the padding behind the ends of a volume, as the published one does; the task's "
        "does not, so features near the ends differ"
    ]
    assert next(iter(network_differences(now, PCT))).startswith("the task's network attends to the padding")
    assert next(iter(network_differences(now, PCT))).endswith("; the file's does not, so features near the ends differ")


def test_aligned_corners_are_told() -> None:
    (said,) = network_differences(FM, changed(FM, reference=False))
    assert said == (
        "the file's network upsamples with aligned corners and leaves out single values, as the published one does; "
        "the task's upsamples by the place of each voxel and leaves out whole features"
    )


def test_other_strides_are_told() -> None:
    (said,) = network_differences(PCT, changed(PCT, strides=[[1, 1, 1], [2, 2, 2], [2, 2, 2]]))
    assert said == "the file's network strides by 1x2x2, 2x2x2, the task's by 2x2x2, 2x2x2"


def test_a_network_of_another_kind_is_told_and_nothing_more() -> None:
    assert list(network_differences(PCT, UNET)) == [
        "the file's network is a PCTNet, the task's a PlainConvUNet: no tensor of one serves the other"
    ]
    assert next(iter(network_differences(FM, PCT))).startswith("the file's network is an FMUNet, the task's a PCTNet")


def test_networks_of_nnunets_own_are_of_one_kind() -> None:
    residual = dataclasses.replace(UNET, class_name=UNET.class_name.replace("PlainConv", "ResidualEncoder"))
    assert not of_other_kinds(UNET, residual)
    assert not of_other_kinds(None, PCT)
    assert of_other_kinds(UNET, PCT)
    assert of_other_kinds(FM, PCT)
