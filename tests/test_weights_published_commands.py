"""The way from a published file to a training, command by command, each of which prints the next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from published_files import fm_unet_weights, pct_net_weights, write_published
from test_weights_import import loads_in_nnunet
from training import DATASET, FINE_TUNER, run_nnunet, with_fine_tuning
from weight_files import described, plans_of, random_tensors, write_planned

from nnunet_volf.cli import main
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.target import build_network, task_of_dataset, task_of_plans

WINDOWS = (2, 2, 2)


@pytest.fixture
def pct_file(tmp_path: Path) -> Path:
    return write_published(tmp_path / "pctnet_ct10k_volf.pt", pct_net_weights(windows=WINDOWS))


@pytest.fixture
def imported(pct_file: Path) -> Path:
    assert main(["weights", "import", str(pct_file)]) == 0
    return pct_file.with_name("pctnet_ct10k_volf-imported.pth")


def weights(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["weights", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def next_of(said: str) -> list[str]:
    """Return the command that was printed last, without the name of the program."""
    line = said.rstrip().splitlines()[-1]
    assert line.startswith("next: ")
    return shlex.split(line.removeprefix("next: "))


def rows_of(said: str) -> dict[str, str]:
    """Return the rows of a table of tensors by name, but for those of the file that have no place."""
    rows = [line for line in said.splitlines() if line.startswith(("encoder.", "decoder.")) and "  left " not in line]
    return {row.split()[0]: row for row in rows}


def pct_net(**changes: Any) -> dict[str, Any]:
    """Return a PCT-Net as plans of our own have it, as wide as the stand-ins."""
    arguments = {
        "n_stages": 5,
        "features_per_stage": [4, 6, 32, 64, 64],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], *([[3, 3, 3]] * 4)],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "window_size": 2,
        **changes,
    }
    return {
        "network_class_name": "nnunet_volf.networks.PCTNet",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op"],
    }


def planned(folders: NnUNetFolders, channels: Sequence[str] = ("MRI",), **changes: Any) -> None:
    write_planned(folders.preprocessed, channels=channels, architecture=pct_net(**changes), patch_size=[16, 32, 32])


# Import.


def test_an_import_is_what_nnunets_own_pretrained_weights_takes(
    pct_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = weights(capsys, "import", pct_file)
    assert code == 0
    assert "nnU-Net's -pretrained_weights takes it as it is where the task's network is this one." in said
    output = pct_file.with_name("pctnet_ct10k_volf-imported.pth")
    assert next_of(said) == ["nnunet-volf", "weights", "plan", str(output), "-d", "DATASET"]
    read = read_pretrained(output)
    assert (read.kind, read.opened, len(read.tensors), len(read.stored)) == ("MIS-FM", "plain", 404, 404)
    assert read.architecture is not None
    other = build_network(read.architecture, 1, 3, initialize=True)
    loaded = loads_in_nnunet(output, other)
    for name, value in loaded.items():
        assert ".seg_layers." in name or torch.equal(value, read.tensors[name])
    content = torch.load(output, weights_only=True)
    assert "optimizer_state_dict" not in content


def test_an_fm_unet_is_imported_the_same_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_published(tmp_path / "fmunet_abk1k_volf.pt", fm_unet_weights())
    code, said = weights(capsys, "import", path, "-o", tmp_path / "b.pth")
    assert (code, "takes it as it is" in said) == (0, True)
    assert len(read_pretrained(tmp_path / "b.pth").stored) == 146


def test_another_resolution_mode_can_be_asked_for(
    pct_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = weights(capsys, "import", pct_file, "--resolution-mode", 0, "-o", tmp_path / "b.pth")
    assert code == 0
    assert "WARNING: resolution mode 0 was never trained" in said
    code, said = weights(capsys, "inspect", pct_file, "--resolution-mode", 0)
    assert "strides     1x1x1, 2x2x2, 2x2x2, 2x2x2, 2x2x2" in said
    code, said = weights(capsys, "inspect", tmp_path / "b.pth", "--resolution-mode", 0)
    assert (code, "holds one network. Leave the option out." in said) == (2, True)


def test_parts_that_are_missing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = pct_net_weights(windows=WINDOWS)
    del stored["pyramid_ct.up4.conv.2.bias"]
    path = write_published(tmp_path / "pctnet_ct10k_volf.pt", stored)
    _, said = weights(capsys, "import", path)
    assert "It lacks 1 of the names that nnU-Net asks for, the first is decoder.stages.0.merge.conv.bias" in said


def test_inspect_says_what_the_file_is_as_it_was_published(pct_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = weights(capsys, "inspect", pct_file)
    assert "MIS-FM, volume fusion" in said
    assert "network       PCTNet, 5 stages" in said
    assert "kernels     1x3x3, 3x3x3, 3x3x3, 3x3x3, 3x3x3" in said
    assert "prepared      patch 64x128x128" in said


# Plan.


def test_a_plan_follows_the_weights_and_they_fit_as_they_are(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, spacing=[2.0, 1.0, 1.0])
    code, said = weights(capsys, "plan", imported, "-d", 7)
    assert code == 0
    assert "fits: nnU-Net takes all of Dataset007_Liver's network but the heads from this file as it is" in said
    assert "warning: pretrained on CT, the task has MRI" in said
    assert (
        "warning: the file does not say how intensities were normalised for pretraining; the task's are by "
        "ZScoreNormalization"
    ) in said
    assert ("warning: the file does not say at which spacing it was pretrained; the task is at 2 x 1 x 1 mm") in said
    assert next_of(said) == [
        "nnUNetv2_train", "7", "3d_fullres", "0", "-p", "LikeWeights", "-tr", FINE_TUNER,
        "-pretrained_weights", str(imported),
    ]  # fmt: skip
    made = json.loads((nnunet_folders.preprocessed / "Dataset007_Liver" / "LikeWeights.json").read_text())
    configuration = made["configurations"]["3d_fullres"]
    assert configuration["architecture"]["network_class_name"] == "nnunet_volf.networks.PCTNet"
    assert configuration["patch_size"] == [64, 128, 128]
    assert configuration["data_identifier"] == "nnUNetPlans_3d_fullres", "the same preprocessed data serves"


def test_the_patch_can_be_another_one(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = weights(capsys, "plan", imported, "-d", 7, "--patch", 16, 32, 48)
    assert code == 0
    assert "with the network of pctnet_ct10k_volf-imported.pth" in said
    assert task_of_dataset("7", "LikeWeights", "3d_fullres").preparation.patch == (16, 32, 48)


def test_a_patch_that_the_network_cannot_halve_is_refused_with_the_nearest(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = weights(capsys, "plan", imported, "-d", 7, "--patch", 20, 56, 3)
    assert code == 2
    assert "--patch is 20 x 56 x 3, and the strides of this network are 8 x 16 x 16 in all" in said
    assert "The nearest: --patch 16 64 16." in said


def test_a_spacing_that_is_not_known_cannot_be_taken(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = weights(capsys, "plan", imported, "-d", 7, "--spacing")
    assert code == 2
    assert "does not say at which spacing it was trained" in said


def test_several_channels_see_what_one_was_trained_on(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, channels=("T1", "T2"))
    _, said = weights(capsys, "plan", imported, "-d", 7)
    assert "fits after adapting: 100.0% of the network is taken over" in said
    command = next_of(said)
    assert command[:3] == ["nnunet-volf", "weights", "adapt"]
    assert main(command[1:]) == 0
    before = read_pretrained(imported).tensors["encoder.stem.weight"]
    after = read_pretrained(Path(command[-1])).tensors["encoder.stem.weight"]
    assert torch.allclose(after, before.expand(-1, 2, -1, -1, -1) / 2)


def test_the_published_file_itself_is_planned_for_too(
    nnunet_folders: NnUNetFolders, pct_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = weights(capsys, "plan", pct_file, "-d", 7)
    assert (code, "fits after adapting: 100.0%" in said) == (0, True)
    assert next_of(said)[:3] == ["nnunet-volf", "weights", "adapt"]


# Check and adapt, for plans of other kinds.


def test_a_plan_of_nnunets_own_network_takes_nothing_and_is_told_what_to_do(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = weights(capsys, "check", imported, "-d", 7)
    assert code == 4
    assert "warning: the file's network is a PCTNet, the task's a PlainConvUNet" in said
    command = ["nnunet-volf", "weights", "plan", str(imported), "-d", "7", "-p", "nnUNetPlans", "-c", "3d_fullres"]
    assert next_of(said) == command


def test_an_fm_unet_gives_nothing_to_a_pct_net_though_names_and_shapes_are_alike(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(nnunet_folders)
    path = write_published(tmp_path / "fmunet_abk1k_volf.pt", fm_unet_weights(mode=1))
    code, said = weights(capsys, "check", path, "-d", 7)
    assert code == 4
    assert "the file's network is an FMUNet, the task's a PCTNet" in said


def test_a_plan_of_our_own_pct_net_takes_the_affine_weights_and_not_the_statistics(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(nnunet_folders)
    code, said = weights(capsys, "check", imported, "-d", 7)
    assert code == 0, "nnU-Net takes it; whether one should is for the warnings to say"
    assert "the file's network normalises by BatchNorm3d, the task's by InstanceNorm3d" in said
    assert "attends to the padding behind the ends of a volume" in said
    assert "102 tensors of the file have no place in the network" in said, "three for each batch normalisation"


def test_a_pct_net_of_other_strides_is_adapted(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(
        nnunet_folders,
        strides=[[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
        kernel_sizes=[[3, 3, 3]] * 5,
    )
    code, said = weights(capsys, "check", imported, "-d", 7, "-v")
    assert code == 3
    rows = rows_of(said)
    assert rows["encoder.stem.weight"].endswith("adapted  kernel 1x3x3 -> 3x3x3")
    assert rows["decoder.stages.3.up.conv.weight"].endswith("adapted  upsampling 1x2x2 -> 2x2x2")
    assert rows["decoder.stages.0.up.conv.weight"].endswith("adapted  upsampling 2x2x2 -> 1x2x2")
    command = next_of(said)
    assert main(command[1:]) == 0
    task = task_of_dataset("7", "nnUNetPlans", "3d_fullres")
    adapted = read_pretrained(Path(command[-1]))
    assert loads_in_nnunet(Path(command[-1]), task.network())
    before, after = (p.tensors["decoder.stages.3.up.conv.weight"] for p in (read_pretrained(imported), adapted))
    assert torch.equal(after, before.repeat_interleave(2, 2))


def test_a_pct_net_of_fewer_stages_takes_those_of_the_same_resolution(
    nnunet_folders: NnUNetFolders, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(
        nnunet_folders,
        n_stages=4,
        features_per_stage=[4, 6, 32, 64],
        strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
        kernel_sizes=[[1, 3, 3], *([[3, 3, 3]] * 3)],
    )
    code, said = weights(capsys, "check", imported, "-d", 7, "-v")
    assert (code, "all but heads" in said) == (3, False)
    rows = rows_of(said)
    assert rows["encoder.stages.3.block.attention.1.attention.bias_table"].endswith("carried")
    assert rows["decoder.stages.2.up.conv.weight"].endswith("carried  from decoder.stages.3.up.conv.weight")
    assert rows["decoder.stages.0.block.attention.0.mlp.fc1.weight"].endswith(
        "carried  from decoder.stages.1.block.attention.0.mlp.fc1.weight"
    )


# Export.


def trained(tmp_path: Path, **changes: Any) -> Path:
    """Write a checkpoint of a fine-tuned PCT-Net, as nnU-Net's trainers do."""
    plans = plans_of(architecture=pct_net(**changes), patch_size=[16, 32, 32])
    plans |= {"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]}
    plans |= {"original_median_spacing_after_transp": [1.0] * 3, "image_reader_writer": "SimpleITKIO"}
    plans |= {"original_median_shape_after_transp": [40] * 3, "experiment_planner_used": "ExperimentPlanner"}
    resampling = {"resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": {}}
    resampling |= {"resampling_fn_seg": "resample_data_or_seg_to_shape", "resampling_fn_seg_kwargs": {}}
    plans["configurations"]["3d_fullres"] |= resampling
    dataset = described(("MRI",), ("organ",))
    task = task_of_plans(plans, "3d_fullres", dataset)
    init = {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": dataset}
    content = {"network_weights": random_tensors(task), "init_args": init, "trainer_name": FINE_TUNER}
    torch.save(content, tmp_path / "trained.pth")
    return tmp_path / "trained.pth"


def test_a_fine_tuned_pct_net_is_exported_for_stock_prediction_and_said_to_need_this_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = weights(capsys, "export", trained(tmp_path), "--as-stock", "-o", tmp_path / "model")
    assert code == 0
    assert f"{tmp_path / 'model'}: predicts with stock nnU-Net where nnunet-volf is installed, folds 0" in said
    assert "Its network, nnunet_volf.networks.PCTNet, is of this package" in said
    content = torch.load(tmp_path / "model" / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert content["trainer_name"] == "nnUNetTrainer"


@pytest.mark.parametrize("norm", ["instancenorm.InstanceNorm3d", "batchnorm.BatchNorm3d"])
def test_a_pct_net_is_passed_on_with_a_card_that_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], norm: str
) -> None:
    options = {"affine": True} if "batch" in norm else {"eps": 1e-5, "affine": True}
    source = trained(tmp_path, norm_op=f"torch.nn.modules.{norm}", norm_op_kwargs=options)
    code, _ = weights(capsys, "export", source, "-o", tmp_path / "out.pth")
    assert code == 0
    card = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert "The network is `nnunet_volf.networks.PCTNet`, so training and prediction need nnunet-volf" in card
    assert "runs on nnU-Net alone" not in card
    before, after = read_pretrained(source).tensors, read_pretrained(tmp_path / "out.pth").tensors
    kept = {name for name in before if ".seg_layers." not in name}
    assert kept <= after.keys()
    assert all(torch.equal(before[name], after[name]) for name in kept)


def test_a_pct_net_goes_the_way_of_nnssl_too_where_this_package_is_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = weights(capsys, "export", trained(tmp_path), "-o", tmp_path / "out.pth", "--nnssl")
    assert code == 0
    assert "that route, too, needs nnunet-volf installed beside it" in said
    assert "cannot change the number of channels" not in said
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    plan = content["nnssl_adaptation_plan"]
    assert (plan["key_to_encoder"], plan["key_to_stem"], plan["key_to_lpe"]) == ("encoder.stages", "encoder.stem", None)
    network = read_pretrained(tmp_path / "out.pth").architecture
    assert network is not None
    built = build_network(network, 1, 2, initialize=False)
    for key in (plan["key_to_encoder"], plan["key_to_stem"]):  # as nnU-Net's pretrainedTrainer does
        own = {n[len(key) + 1 :]: t for n, t in content["network_weights"].items() if n.startswith(f"{key}.")}
        built.get_submodule(key).load_state_dict(own, strict=True)
    assert f"{plan['keys_to_in_proj'][0]}.weight" in content["network_weights"]


# All of it.


@pytest.mark.timeout(900)  # processes that load nnU-Net and start workers
@pytest.mark.parametrize(
    "network", [pytest.param("pct", marks=pytest.mark.slow), pytest.param("fm", marks=pytest.mark.weekly)]
)
def test_from_a_published_file_to_predictions(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str], network: str
) -> None:
    if network == "pct":
        path = write_published(tmp_path / "pctnet_ct10k_volf.pt", pct_net_weights(windows=WINDOWS))
    else:
        path = write_published(tmp_path / "fmunet_abd1k_volf.pt", fm_unet_weights())
    _, said = weights(capsys, "import", path)
    command = next_of(said)
    assert command[-1] == "DATASET"
    _, said = weights(capsys, *command[2:-1], DATASET, "--patch", 16, 32, 32)
    command = next_of(said)
    assert command[0] == "nnUNetv2_train"
    plans = with_fine_tuning(source="LikeWeights", epochs=1, iterations=2)

    arguments = [plans if word == "LikeWeights" else word for word in command[1:]]
    done = run_nnunet(command[0], *arguments, "-device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MIS-FM, volume fusion" in done.stdout
    training = phantoms.results / DATASET / f"{FINE_TUNER}__{plans}__3d_fullres"

    _, said = weights(capsys, "export", training, "--as-stock", "-o", tmp_path / "model")
    command = next_of(said)
    images = str(phantoms.raw / DATASET / "imagesTr")
    filled = {"INPUT": images, "OUTPUT": str(tmp_path / "predicted")}
    arguments = [filled.get(word, word) for word in command[1:]]
    done = run_nnunet(command[0], *arguments, "-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "predicted").glob("*.nii.gz"))) == 6
