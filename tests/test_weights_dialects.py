"""Each writer's files are read for what they are, with the same names for the same tensors."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NnUNetFolders
from pretrained_files import ARCHITECTURE, adaptation_plan, equal, network, nnssl_file, unique_parameters, written
from torch import Tensor, nn
from training import DATASET, make_trainer, with_settings

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.pretrained import Pretrained


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return network()


# nnU-Net's and ours.


def test_a_checkpoint_of_stock_nnunet_is_read_with_all_that_it_says(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    trainer = make_trainer("nnUNetPlans", trainer="nnUNetTrainer")
    trainer.initialize()
    trainer.current_epoch = 7
    trainer._best_ema = np.float64(0.5)
    trainer.save_checkpoint(str(tmp_path / "a.pth"))
    read = read_pretrained(tmp_path / "a.pth")
    assert (read.kind, read.trainer, read.method) == ("nnU-Net", "nnUNetTrainer", None)
    assert (read.dataset, read.configuration, read.epochs) == (DATASET, "3d_fullres", 8)
    assert read.preparation is not None
    assert read.preparation.channels == ("phantom0",)
    assert read.preparation.normalization == ("ZScoreNormalization",)
    assert read.preparation.patch == (16, 24, 20)
    assert read.preparation.intensities[0].keys() >= {"mean", "std", "percentile_00_5", "percentile_99_5"}
    assert read.architecture is not None
    assert read.architecture.class_name.endswith(".PlainConvUNet")
    assert read.architecture.arguments["features_per_stage"] == [4, 8, 8]
    assert read.plans is not None
    assert read.plans["plans_name"] == "nnUNetPlans"
    assert equal(read.tensors, unique_parameters(trainer.network))
    assert read.stored == {name: tuple(value.shape) for name, value in trainer.network.state_dict().items()}
    assert read.notes == ()


def test_a_checkpoint_of_ours_is_read_with_method_settings_and_data(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    trainer = make_trainer(with_settings(flip=0.25))
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "a.pth"))
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    content["nnunet_volf"]["data"] = {"cases": 5, "content": "abc"}
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert (read.kind, read.opened, read.trainer) == ("nnunet-volf", "plain", "nnUNetTrainerVolF")
    assert read.method == "volume fusion"
    assert read.settings["flip"] == 0.25
    assert "torch" in read.versions
    assert read.data == {"cases": 5, "content": "abc"}


def test_a_configuration_is_read_with_what_it_inherits(tmp_path: Path, model: nn.Module) -> None:
    path = written(tmp_path / "a.pth", nnunet_content(model, configuration="3d_large"))
    read = read_pretrained(path)
    assert read.preparation is not None
    assert read.preparation.patch == (32, 32, 32)
    assert read.preparation.spacing == (1.0, 0.5, 0.5)


def test_plans_of_before_nnunet_2_4_are_understood(tmp_path: Path, model: nn.Module) -> None:
    content = nnunet_content(model)
    content["init_args"]["plans"]["configurations"]["3d_fullres"] = {
        "patch_size": [16, 16, 16], "spacing": [1, 1, 1], "normalization_schemes": ["CTNormalization"],
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 32, "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [2, 2], "n_conv_per_stage_decoder": [2], "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]], "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    }  # fmt: skip
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert read.architecture is not None
    assert read.architecture.arguments["features_per_stage"] == [32, 64]


def nnunet_content(model: nn.Module, configuration: str = "3d_fullres") -> dict[str, Any]:
    own = {
        "patch_size": [16, 16, 16],
        "spacing": [1, 0.5, 0.5],
        "normalization_schemes": ["ZScoreNormalization"],
        "architecture": ARCHITECTURE,
    }
    return {
        "network_weights": model.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "current_epoch": 5,
        "init_args": {
            "plans": {
                "dataset_name": "Dataset900_Test",
                "plans_name": "nnUNetPlans",
                "image_reader_writer": "SimpleITKIO",
                "transpose_forward": [0, 1, 2],
                "transpose_backward": [0, 1, 2],
                "configurations": {
                    "3d_fullres": own,
                    "3d_large": {"inherits_from": "3d_fullres", "patch_size": [32, 32, 32]},
                },
            },
            "configuration": configuration,
            "dataset_json": {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "x": 1}},
        },
    }


def test_plans_are_looked_for_beside_a_file_that_holds_none(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    trainer = make_trainer("nnUNetPlans", trainer="nnUNetTrainer")
    trainer.initialize()
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    source = phantoms.preprocessed / DATASET
    shutil.copy(source / "nnUNetPlans.json", folder / "plans.json")
    shutil.copy(source / "dataset.json", folder / "dataset.json")
    path = written(folder / "fold_0" / "a.pth", {"network_weights": trainer.network.state_dict()})
    read = read_pretrained(path)
    assert (read.dataset, read.configuration) == (DATASET, "3d_fullres")
    assert read.notes == (f"The plans were read from {folder / 'plans.json'}; the file itself holds none.",)
    (folder / "plans.json").write_text("{")
    with pytest.raises(WeightsError, match="is not JSON"):
        read_pretrained(path)


@pytest.mark.parametrize(
    "plans",
    [None, "x", [], {}, {"configurations": {}}, {"configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}}, 3],
)
def test_weights_are_read_where_the_plans_are_not_understood(tmp_path: Path, model: nn.Module, plans: Any) -> None:
    content = nnunet_content(model)
    content["init_args"]["plans"] = plans
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert read.preparation is None
    assert equal(read.tensors, unique_parameters(model))
    assert any("plans" in note for note in read.notes)


def test_values_of_the_wrong_type_are_left_out(tmp_path: Path, model: nn.Module) -> None:
    content = nnunet_content(model)
    content.update(trainer_name=argparse.Namespace(), current_epoch=torch.tensor(3), init_args=[1])
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert (read.trainer, read.epochs, read.dataset) == (None, None, None)
    assert "Ignored, because it is neither a tensor nor plain data: argparse.Namespace." in read.notes


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, model: nn.Module) -> None:
    content = {**nnunet_content(model), "trainer_name": "nice\x1b[2Ktrainer"}
    assert read_pretrained(written(tmp_path / "a.pth", content)).trainer == "nice?[2Ktrainer"
    with pytest.raises(WeightsError, match="whose name is no text that can be shown"):
        read_pretrained(written(tmp_path / "a.pth", {"network_weights": {"a\x1b": torch.ones(1)}}))


# nnssl's.


def check_nnssl(read: Pretrained, expected: dict[str, Tensor]) -> None:
    assert (read.kind, read.trainer, read.epochs) == ("nnssl", "VolumeFusionTrainer", 1000)
    assert equal(read.tensors, expected)


def test_a_checkpoint_of_nnssl_is_read_with_its_adaptation_plan(tmp_path: Path, model: nn.Module) -> None:
    read = read_pretrained(nnssl_file(tmp_path / "a.pth", model.state_dict()))
    check_nnssl(read, unique_parameters(model))
    assert (read.dataset, read.configuration) == ("Dataset745_OpenMind", "onemmiso")
    assert read.preparation is not None
    assert read.preparation.channels == ("unnamed",)
    assert read.preparation.normalization == ("ZScoreNormalization",)
    assert (read.preparation.spacing, read.preparation.patch) == ((1.0, 1.0, 1.0), (160, 160, 160))
    assert read.architecture is not None
    assert read.architecture.class_name == ARCHITECTURE["network_class_name"]
    assert read.architecture.arguments["features_per_stage"] == [4, 6, 8]
    assert read.citations == ("Isensee et al. (2024).", "@article{wang2023}")
    assert "Its authors recommend patches of 160 x 160 x 160 for fine-tuning." in read.notes


def renamed(weights: dict[str, Tensor], rename: Callable[[str], str | None]) -> dict[str, Tensor]:
    names = {name: rename(name) for name in weights}
    return {new: weights[old] for old, new in names.items() if new is not None}


def test_an_encoder_under_other_names_is_brought_under_nnunets(tmp_path: Path, model: nn.Module) -> None:
    weights = renamed(
        model.state_dict(),
        lambda name: (
            name.replace("encoder.stages", "backbone.body").replace("encoder.stem", "backbone.first")
            if name.startswith("encoder.")
            else None
        ),
    )
    weights["projector.weight"] = torch.ones(3)
    read = read_pretrained(
        nnssl_file(tmp_path / "a.pth", weights, key_to_encoder="backbone.body", key_to_stem="backbone.first")
    )
    encoder = {k: v for k, v in unique_parameters(model).items() if k.startswith("encoder.")}
    check_nnssl(read, {**encoder, "projector.weight": torch.ones(3)})


def test_a_prefix_of_the_whole_network_is_removed_from_the_decoder_too(tmp_path: Path, model: nn.Module) -> None:
    weights = renamed(model.state_dict(), lambda name: f"student.{name}")
    weights["head.weight"] = torch.ones(3)
    read = read_pretrained(
        nnssl_file(
            tmp_path / "a.pth", weights, key_to_encoder="student.encoder.stages", key_to_stem="student.encoder.stem"
        )
    )
    check_nnssl(read, {**unique_parameters(model), "head.weight": torch.ones(3)})


def test_an_encoder_without_a_prefix_is_brought_under_nnunets_names(tmp_path: Path, model: nn.Module) -> None:
    weights = {k.removeprefix("encoder."): v for k, v in model.state_dict().items() if k.startswith("encoder.")}
    read = read_pretrained(nnssl_file(tmp_path / "a.pth", weights, key_to_encoder="stages", key_to_stem="stem"))
    check_nnssl(read, {k: v for k, v in unique_parameters(model).items() if k.startswith("encoder.")})


def test_a_plain_networks_stem_is_its_first_stage(tmp_path: Path) -> None:
    weights = {"enc.stages.0.0.convs.0.conv.weight": torch.ones(2), "enc.stages.1.0.convs.0.conv.weight": torch.ones(3)}
    plan = {"architecture_plans": {"arch_class_name": "PlainConvUNet", "arch_kwargs": ARCHITECTURE["arch_kwargs"]}}
    read = read_pretrained(
        nnssl_file(tmp_path / "a.pth", weights, key_to_encoder="enc.stages", key_to_stem="enc.stages.0", **plan)
    )
    assert list(read.tensors) == ["encoder.stages.0.0.convs.0.conv.weight", "encoder.stages.1.0.convs.0.conv.weight"]
    assert read.architecture is not None
    assert read.architecture.class_name.endswith("unet.PlainConvUNet")


def test_the_preset_of_openmind_is_the_network_that_it_stands_for(tmp_path: Path) -> None:
    from nnunet_volf.weights.target import network_shapes

    plan = {
        "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None, "arch_kwargs_requiring_import": None}
    }
    read = read_pretrained(nnssl_file(tmp_path / "a.pth", {"encoder.stem.x": torch.ones(1)}, **plan))
    assert read.architecture is not None
    shapes, first = network_shapes(read.architecture, inputs=1, heads=5)
    assert first == "encoder.stem.convs.0.conv.weight"
    assert shapes[first] == (32, 1, 3, 3, 3)
    assert shapes["encoder.stages.5.blocks.5.conv2.conv.weight"] == (320, 320, 3, 3, 3)
    assert shapes["encoder.stages.3.blocks.0.conv1.conv.weight"] == (256, 128, 3, 3, 3)
    assert shapes["decoder.seg_layers.4.weight"] == (5, 32, 1, 1, 1)


def test_a_transformers_tensors_keep_their_names(tmp_path: Path) -> None:
    weights = {"eva.blocks.0.weight": torch.ones(2), "down_projection.proj.weight": torch.ones(2)}
    plan = {
        "architecture_plans": {"arch_class_name": "PrimusM"},
        "key_to_encoder": "eva",
        "key_to_stem": "down_projection",
    }
    read = read_pretrained(nnssl_file(tmp_path / "a.pth", weights, **plan))
    assert list(read.tensors) == list(weights)
    assert read.architecture is None
    assert "Its network, PrimusM, is none of nnU-Net's U-Nets." in read.notes


def test_a_checkpoint_of_nnssl_before_adaptation_plans_is_recognised(tmp_path: Path, model: nn.Module) -> None:
    init = {"plan": adaptation_plan()["pretrain_plan"], "configuration_name": "onemmiso", "pretrain_json": {}}
    content = {"network_weights": model.state_dict(), "trainer_name": "BaseMAETrainer", "init_args": init}
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert (read.kind, read.dataset, read.configuration) == ("nnssl", "Dataset745_OpenMind", "onemmiso")
    assert read.preparation is not None
    assert equal(read.tensors, unique_parameters(model))


@pytest.mark.parametrize("plan", [{}, {"pretrain_plan": 3}, {"key_to_encoder": None}, {"architecture_plans": "x"}])
def test_weights_are_read_where_the_adaptation_plan_is_not_understood(
    tmp_path: Path, model: nn.Module, plan: dict[str, Any]
) -> None:
    content = {"network_weights": model.state_dict(), "nnssl_adaptation_plan": plan}
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert (read.kind, read.preparation) == ("nnssl", None)
    assert equal(read.tensors, unique_parameters(model))
