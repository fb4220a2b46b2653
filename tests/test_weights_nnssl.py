"""Weights for nnU-Net's own route for pretrained encoders, which the released 2.8.1 does not have."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from test_weights_export import export, load, train
from training import DATASET, TRAINER, change_plans, make_trainer, with_settings

from nnunet_volf.weights.dialects import read_pretrained

NEEDS_ROUTE = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2.utilities.load_weights_utils") is None,
    reason="this nnU-Net has no route for pretrained encoders",
)

# What nnU-Net's like_nnssl.py and pretrainedTrainer.py read; and nnssl's Plan and ConfigurationPlan, which refuse more.
PLAN = {
    "architecture_plans", "pretrain_plan", "pretrain_num_input_channels", "recommended_downstream_patchsize",
    "key_to_encoder", "key_to_stem", "keys_to_in_proj", "key_to_lpe",
}  # fmt: skip
PRETRAIN_PLAN = {
    "dataset_name", "plans_name", "original_median_spacing_after_transp", "image_reader_writer", "transpose_forward",
    "transpose_backward", "configurations", "experiment_planner_used",
}  # fmt: skip
CONFIGURATION = {
    "data_identifier", "preprocessor_name", "spacing_style", "normalization_schemes", "use_mask_for_norm",
    "resampling_fn_data", "resampling_fn_data_kwargs", "resampling_fn_mask", "resampling_fn_mask_kwargs", "spacing",
    "patch_size",
}  # fmt: skip
UNET = "dynamic_network_architectures.architectures.unet"


def residual(plans: dict[str, Any]) -> None:
    network = plans["configurations"]["3d_fullres"]["architecture"]
    network["network_class_name"] = f"{UNET}.ResidualEncoderUNet"
    network["arch_kwargs"]["n_blocks_per_stage"] = network["arch_kwargs"].pop("n_conv_per_stage")


def plain(plans: dict[str, Any]) -> None:
    """Leave the network as it is."""


def pretrained(change: Any = plain) -> Path:
    name = with_settings(epochs=1)
    change_plans(change, source=name, target="Changed")
    return train("Changed")


@pytest.mark.parametrize(
    ("change", "network", "stem"),
    [(plain, "PlainConvUNet", "encoder.stages.0"), (residual, "ResidualEncoderUNet", "encoder.stem")],
)
def test_the_layout_is_the_one_that_nnunet_and_nnssl_read(
    phantoms: NnUNetFolders, tmp_path: Path, change: Any, network: str, stem: str
) -> None:
    assert export(pretrained(change), tmp_path / "out.pth", "--nnssl") == 0
    content = load(tmp_path / "out.pth")  # the route opens it with weights_only=True, too
    plan = content["nnssl_adaptation_plan"]
    assert set(plan) == PLAN
    assert set(plan["pretrain_plan"]) == PRETRAIN_PLAN
    assert list(plan["pretrain_plan"]["configurations"]) == ["3d_fullres"]
    assert set(plan["pretrain_plan"]["configurations"]["3d_fullres"]) == CONFIGURATION
    assert plan["architecture_plans"]["arch_class_name"] == f"{UNET}.{network}"
    assert plan["key_to_encoder"] == "encoder.stages"
    assert plan["key_to_stem"] == stem
    assert plan["key_to_lpe"] is None
    for key in plan["keys_to_in_proj"]:
        assert f"{key}.weight" in content["network_weights"]
        assert key.startswith(stem)
    assert plan["recommended_downstream_patchsize"] == [16, 24, 20]
    assert plan["pretrain_num_input_channels"] == 1
    assert json.loads((tmp_path / "adaptation_plan.json").read_text()) == plan
    for citation in content["citations"]:
        assert set(citation) == {"type", "name", "apa_citations"}


def test_the_plan_rebuilds_the_network_and_its_keys_lead_to_all_of_the_encoder(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    export(pretrained(residual), tmp_path / "out.pth", "--nnssl")
    content = load(tmp_path / "out.pth")
    plan = content["nnssl_adaptation_plan"]
    described = plan["architecture_plans"]
    network = get_network_from_plans(
        described["arch_class_name"], described["arch_kwargs"], described["arch_kwargs_requiring_import"], 1, 5
    )
    network.load_state_dict(content["network_weights"], strict=True)
    for key in (plan["key_to_encoder"], plan["key_to_stem"]):
        own = {name[len(key) + 1 :]: t for name, t in content["network_weights"].items() if name.startswith(f"{key}.")}
        network.get_submodule(key).load_state_dict(own, strict=True)


@NEEDS_ROUTE
@pytest.mark.parametrize("change", [plain, residual])
def test_nnunets_own_route_plans_with_it_and_loads_its_encoder(
    phantoms: NnUNetFolders, tmp_path: Path, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunetv2.experiment_planning.like_nnssl import preprocess_like_nnssl
    from nnunetv2.run.run_training_from_pretrained import get_trainer_from_args

    export(pretrained(change), tmp_path / "out.pth", "--nnssl")
    monkeypatch.delenv("nnUNet_n_proc_DA")
    preprocess_like_nnssl(901, "Ours", str(tmp_path / "out.pth"), "like_pretrained", None, 1, False)
    (plans,) = (phantoms.preprocessed / "Dataset901_Phantom").glob("ptPlans__Ours*.json")
    trainer = get_trainer_from_args("901", "3d_fullres", 0, "PretrainedTrainer", plans.stem, torch.device("cpu"))
    trainer.initialize()
    weights = load(tmp_path / "out.pth")["network_weights"]
    encoder = {name: tensor for name, tensor in trainer.network.state_dict().items() if name.startswith("encoder.")}
    assert encoder
    assert all(torch.equal(tensor, weights[name]) for name, tensor in encoder.items())


def test_it_is_read_as_ours_not_as_a_strangers(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    source = pretrained()
    export(source, tmp_path / "out.pth", "--nnssl")
    before, after = read_pretrained(source), read_pretrained(tmp_path / "out.pth")
    assert (after.kind, after.data, after.settings) == ("nnunet-volf", before.data, before.settings)
    assert after.preparation == before.preparation


def test_the_command_says_what_that_route_leaves_behind_and_how_to_go_on(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = pretrained(residual)
    capsys.readouterr()
    export(source, tmp_path / "out.pth", "--nnssl")
    said = capsys.readouterr().out
    assert said.count("warning:") == 1
    assert "takes the encoder only; the decoder starts anew" in said
    command = f"nnUNetv2_preprocess_like_nnssl -d DATASET -n out -pc {tmp_path / 'out.pth'} -am like_pretrained"
    assert said.endswith(f"\nnext: {command}\n")


def ct(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization"]


def turned(plans: dict[str, Any]) -> None:
    plans |= {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    plans["configurations"]["3d_fullres"]["spacing"] = [3.0, 1.0, 1.0]


def turned_isotropic(plans: dict[str, Any]) -> None:
    plans |= {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}


@pytest.mark.parametrize(
    ("change", "said", "spacing"),
    [
        (ct, "these weights were trained with CTNormalization", [1.0, 1.0, 1.0]),
        (plain, "the number of channels of a plain network: the new dataset must have 1", [1.0, 1.0, 1.0]),
        (turned, "The axes were reordered ([2, 0, 1])", None),
        (turned_isotropic, "", [1.0, 1.0, 1.0]),
    ],
)
def test_what_that_route_would_get_wrong_is_said(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str, spacing: Any
) -> None:
    source = pretrained(change)
    capsys.readouterr()
    export(source, tmp_path / "out.pth", "--nnssl")
    out = capsys.readouterr().out
    assert said in out
    assert ("axes were reordered" in out) == (change is turned)
    plan = load(tmp_path / "out.pth")["nnssl_adaptation_plan"]["pretrain_plan"]
    assert plan["configurations"]["3d_fullres"]["spacing"] == spacing


def test_two_channels_are_said_to_be_fixed_for_residual_networks_too(
    tmp_path: Path, phantoms: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    source = pretrained(residual)
    checkpoint = load(source)
    init = checkpoint["init_args"]
    init["dataset_json"]["channel_names"] = {"0": "T1", "1": "T2"}
    configuration = init["plans"]["configurations"]["3d_fullres"]
    configuration |= {"normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [False] * 2}
    weights = checkpoint["network_weights"]
    for name in [n for n in weights if n.startswith(("encoder.stem", "decoder.encoder.stem")) and weights[n].ndim == 5]:
        weights[name] = weights[name].repeat(1, 2, 1, 1, 1)
    torch.save(checkpoint, tmp_path / "in.pth")
    capsys.readouterr()
    assert export(tmp_path / "in.pth", tmp_path / "out.pth", "--nnssl") == 0
    assert "cannot change the number of channels: the new dataset must have 2" in capsys.readouterr().out


def test_two_dimensional_weights_are_refused(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = with_settings(configuration="2d", epochs=1)
    make_trainer(plans, configuration="2d").run_training()
    folder = phantoms.results / DATASET / f"{TRAINER}__{plans}__2d"
    assert export(folder / "fold_0" / "checkpoint_final.pth", tmp_path / "out.pth", "--nnssl") == 2
    assert "2d is two-dimensional" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_a_plan_of_another_file_is_not_overwritten(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "adaptation_plan.json").write_text("{}")
    assert export(pretrained(), tmp_path / "out.pth", "--nnssl") == 2
    assert "adaptation_plan.json exists" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_stock_pretrained_weights_take_the_same_file(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    source = pretrained()
    export(source, tmp_path / "out.pth", "--nnssl")
    stock = make_trainer("nnUNetPlans", trainer="nnUNetTrainer")
    stock.initialize()
    load_pretrained_weights(stock.network, str(tmp_path / "out.pth"))
    weights = load(source)["network_weights"]
    for name, tensor in stock.network.state_dict().items():
        assert ".seg_layers." in name or torch.equal(tensor, weights[name]), name
