"""nnU-Net's planners with another network: they choose patch and batch for it as they do for their own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, NnUNetFolders
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from often import often
from training import DATASET

from nnunet_volf.errors import SettingsError
from nnunet_volf.networks.catalogue import NETWORKS
from nnunet_volf.phantoms import write_phantom_dataset
from nnunet_volf.preprocessing import planners
from nnunet_volf.preprocessing.planners import Planner

# nnU-Net's default planner fills 8 GB with so many values of feature maps, in batches of two.
PLAIN_3D = 560_000_000
OWN = {"architecture", "patch_size", "batch_size", "data_identifier"}


def fingerprint(shape: tuple[int, ...], spacing: tuple[float, ...], cases: int = 6) -> dict[str, Any]:
    statistics = {"mean": 1.0, "median": 1.0, "std": 1.0, "min": 0.0, "max": 2.0}
    return {
        "spacings": [spacing] * cases,
        "shapes_after_crop": [shape] * cases,
        "foreground_intensity_properties_per_channel": {
            "0": {**statistics, "percentile_00_5": 0.0, "percentile_99_5": 2.0}
        },
        "median_relative_size_after_cropping": 1.0,
    }


SMALL = fingerprint((32, 40, 36), (1.0, 1.0, 1.0))
LARGE = fingerprint((64, 112, 96), (1.0, 1.0, 1.0), cases=500)
SLICES = fingerprint((24, 128, 128), (5.0, 0.7, 0.7), cases=500)


def planned(
    taken: dict[str, Any], network: str | None, planner: str = "ExperimentPlanner", memory: float | None = None
) -> dict[str, Any]:
    made = Planner(planner, NETWORKS[network] if network else None, memory=memory)
    return made.plan(DATASET, taken, made.plans_name)


@pytest.fixture
def labelled(nnunet_folders: NnUNetFolders) -> Path:
    """A raw dataset of one phantom, which says that there are six; its fingerprint is made up by each test."""
    folder = write_phantom_dataset(nnunet_folders.raw, DATASET, 1, (12, 14, 16))
    listed = {"case_000": {"images": ["imagesTr/case_000_0000.nii.gz"], "label": "labelsTr/case_000.nii.gz"}}
    describe(folder, numTraining=6, dataset=listed)
    return folder


def describe(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def quickly_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what does not depend on how values are counted: as if of each voxel as many were kept."""
    monkeypatch.setattr(planners, "_feature_map_size", lambda _entry, patch, *_: 500 * torch.Size(patch).numel())


def fullres(*arguments: Any, **options: Any) -> dict[str, Any]:
    configuration: dict[str, Any] = planned(*arguments, **options)["configurations"]["3d_fullres"]
    return configuration


def values_in_a_patch(configuration: dict[str, Any]) -> int:
    """Count feature map values as planning does, of a network with weights."""
    names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    entry = configuration["architecture"]
    network: Any = get_network_from_plans(*(entry[name] for name in names), 1, 4, allow_init=False)
    return int(network.compute_conv_feature_map_size(configuration["patch_size"]))


@pytest.mark.parametrize("network", ["pctnet", "fmunet"])
@pytest.mark.parametrize("taken", often([SMALL, LARGE, SLICES], SMALL), ids=["small", "large", "slices"])
def test_the_network_has_the_topology_that_nnunet_finds_for_the_patch_and_fills_the_memory(
    labelled: Path, network: str, taken: dict[str, Any]
) -> None:
    made = fullres(taken, network, memory=1)
    arguments = made["architecture"]["arch_kwargs"]
    _, strides, kernels, patch, _ = get_pool_and_conv_props(made["spacing"], made["patch_size"], 4, 999999)
    assert list(patch) == list(made["patch_size"])
    assert arguments["strides"] == [list(stride) for stride in strides]
    assert arguments["kernel_sizes"] == [list(kernel) for kernel in kernels]
    assert arguments["n_stages"] == len(strides) == len(arguments["features_per_stage"])
    assert made["architecture"]["network_class_name"] == NETWORKS[network].class_path
    values = values_in_a_patch(made)
    assert values <= PLAIN_3D / 8
    if taken is not SMALL:  # of which a twentieth of all voxels is the most, as nnU-Net has it
        assert made["batch_size"] == max(2, round(2 * PLAIN_3D / 8 / values))


def test_slices_far_apart_are_not_pooled_over_before_those_within_are_as_far(
    labelled: Path, quickly_counted: None
) -> None:
    arguments = fullres(SLICES, "pctnet", memory=2)["architecture"]["arch_kwargs"]
    assert arguments["strides"][:3] == [[1, 1, 1], [1, 2, 2], [1, 2, 2]]
    assert arguments["kernel_sizes"][:2] == [[1, 3, 3], [1, 3, 3]]


@pytest.mark.parametrize("network", often(["pctnet", "fmunet"], "fmunet"))
def test_less_memory_makes_patches_smaller_then_batches_and_widths_stay(labelled: Path, network: str) -> None:
    voxels = [torch.Size(fullres(LARGE, network, memory=size)["patch_size"]).numel() for size in (2, 0.5)]
    assert voxels[0] > voxels[1]
    many = fingerprint((32, 40, 36), (1.0, 1.0, 1.0), cases=5000)
    describe(labelled, numTraining=5000)
    batches = [fullres(many, network, memory=size) for size in (4, 1)]
    assert batches[0]["patch_size"] == batches[1]["patch_size"]
    assert batches[0]["batch_size"] > batches[1]["batch_size"] >= 2
    assert batches[0]["architecture"] == batches[1]["architecture"]


def test_the_residual_presets_give_their_memory_and_the_plain_planner_the_measure(
    labelled: Path, quickly_counted: None
) -> None:
    huge = fingerprint((250, 250, 250), (1.0, 1.0, 1.0), cases=50)
    for preset, memory in (("M", 8), ("L", 24), ("XL", 40)):
        made = fullres(huge, "pctnet", f"nnUNetPlannerResEnc{preset}")
        plain = fullres(huge, "pctnet", memory=memory)
        assert made["patch_size"] == plain["patch_size"], preset
        assert made["architecture"] == plain["architecture"], preset
    # Their rule for batches is theirs: all of a data set, and not a twentieth, may be seen in a step.
    few = fingerprint((64, 64, 64), (1.0, 1.0, 1.0))
    assert fullres(few, "pctnet")["batch_size"] < fullres(few, "pctnet", "nnUNetPlannerResEncM")["batch_size"]


def test_the_measure_is_nnunets_own(labelled: Path) -> None:
    folder = labelled.parents[1] / "nnUNet_preprocessed" / DATASET
    folder.mkdir()
    (folder / "dataset_fingerprint.json").write_text(json.dumps(SMALL))
    plain = ExperimentPlanner(DATASET)
    assert {
        2: (plain.UNet_reference_val_2d, plain.UNet_reference_val_corresp_bs_2d),
        3: (plain.UNet_reference_val_3d, plain.UNet_reference_val_corresp_bs_3d),
    } == planners._PLAIN
    assert plain.UNet_reference_val_corresp_GB == planners._PLAIN_GIGABYTES


@pytest.mark.parametrize("planner", ["ExperimentPlanner", "nnUNetPlannerResEncM"])
def test_all_that_shapes_voxels_is_as_the_planner_has_it_for_its_own_network(labelled: Path, planner: str) -> None:
    own, other = planned(SMALL, None, planner), planned(SMALL, "pctnet", planner)
    assert own["configurations"]["2d"] | {"data_identifier": ""} == (
        other["configurations"]["2d"] | {"data_identifier": ""}
    ), "PCT-Net has no 2D, and nnU-Net's network stays there"
    ours, theirs = own["configurations"].pop("3d_fullres"), other["configurations"].pop("3d_fullres")
    assert {name: value for name, value in ours.items() if name not in OWN} == {
        name: value for name, value in theirs.items() if name not in OWN
    }
    assert {name: own[name] for name in own if name not in ("plans_name", "configurations")} == {
        name: other[name] for name in other if name not in ("plans_name", "configurations")
    }
    assert theirs["data_identifier"] == "nnUNetPlans_3d_fullres", "the network does not shape voxels"


def test_fmunet_is_planned_in_2d_too_and_both_at_low_resolution(labelled: Path, quickly_counted: None) -> None:
    plans = planned(LARGE, "fmunet", memory=0.3)["configurations"]
    assert {name: made["architecture"]["network_class_name"] for name, made in plans.items() if name != _CASCADE} == (
        dict.fromkeys(("2d", "3d_lowres", "3d_fullres"), "nnunet_volf.networks.FMUNet")
    )
    assert plans["2d"]["architecture"]["arch_kwargs"]["conv_op"].endswith("Conv2d")
    lowres = planned(LARGE, "pctnet", memory=0.3)["configurations"]["3d_lowres"]
    assert lowres["architecture"]["network_class_name"] == "nnunet_volf.networks.PCTNet"
    assert lowres["data_identifier"] == "nnUNetPCTNetPlans_3d_lowres", "its spacing follows from the patch"


_CASCADE = "3d_cascade_fullres"


@pytest.mark.parametrize(
    ("planner", "network", "name"),
    [
        ("ExperimentPlanner", None, "nnUNetPlans"),
        ("ExperimentPlanner", "pctnet", "nnUNetPCTNetPlans"),
        ("nnUNetPlannerResEncL", "fmunet", "nnUNetFMUNetLPlans"),
        ("nnUNetPlannerResEncL_torchres", "pctnet", "nnUNetPCTNetLPlans_torchres"),
    ],
)
def test_plans_are_called_after_planner_and_network(planner: str, network: str | None, name: str) -> None:
    assert Planner(planner, NETWORKS[network] if network else None).plans_name == name


def test_a_planner_that_resamples_otherwise_has_data_of_its_own(labelled: Path) -> None:
    made = fullres(SMALL, "pctnet", "nnUNetPlannerResEncL_torchres")
    assert made["data_identifier"] == "nnUNetPCTNetLPlans_torchres_3d_fullres"
    assert made["resampling_fn_data"] == "resample_torch_fornnunet"
    chosen = Planner("ExperimentPlanner", NETWORKS["pctnet"], [2.0, 1.0, 1.0]).plan(DATASET, SMALL, "Mine")
    assert chosen["configurations"]["3d_fullres"]["data_identifier"] == "Mine_3d_fullres", "and so has a chosen spacing"


def test_planning_writes_nothing_and_leaves_nnunets_folders_as_they_are_named(labelled: Path, tmp_path: Path) -> None:
    def everything() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    before, variables = everything(), dict(os.environ)
    planned(SMALL, "pctnet")
    with pytest.raises(SettingsError):
        Planner("Planner", NETWORKS["pctnet"]).plan(DATASET, SMALL, "x")
    with pytest.raises(SettingsError):
        planned(fingerprint((6, 6, 6), (1.0, 1.0, 1.0)), "pctnet")
    assert everything() == before
    assert dict(os.environ) == variables


@pytest.mark.parametrize(("taken", "memory"), [(fingerprint((6, 6, 6), (1.0, 1.0, 1.0)), None), (SMALL, 0.001)])
def test_images_or_a_memory_too_small_for_two_stages_are_refused(
    labelled: Path, taken: dict[str, Any], memory: float | None
) -> None:
    with pytest.raises(SettingsError, match="PCT-Net needs two stages or more, and the patch that was planned allows"):
        planned(taken, "pctnet", memory=memory)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_patches_that_the_page_shows_are_those_that_are_planned(labelled: Path) -> None:
    text = (REPOSITORY / "docs" / "networks.md").read_text(encoding="utf-8")
    rows = [row.strip("| ").split(" | ") for row in text[text.index("| network | patch at") :].splitlines()[2:5]]
    named = {network.title: name for name, network in NETWORKS.items()}
    taken = fingerprint((200, 320, 320), (1.0, 1.0, 1.0), cases=300)
    describe(labelled, numTraining=300)
    for title, *shown in rows:
        found: list[str] = []
        for memory in (8, 24):
            made = fullres(taken, named.get(title), memory=memory)
            stages = made["architecture"]["arch_kwargs"]["n_stages"]
            found += [" x ".join(str(side) for side in made["patch_size"]), str(stages)]
            assert made["batch_size"] == 2
        assert found == shown, title
