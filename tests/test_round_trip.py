"""From unlabeled to anywhere: pretrain, check, adapt, fine-tune, export, predict without this package.

Everything after the pretraining is done by the commands that a user types, for plans unlike those of the pretraining.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import NnUNetFolders
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from training import DATASET, FINE_TUNER, change_plans, make_trainer, run_nnunet, tiny_networks, with_settings
from without_package import farm, run_without_package

from nnunet_volf.cli import main
from nnunet_volf.phantoms import write_phantom_dataset

# nnU-Net's command, but in one process: those of its workers would each load all of nnU-Net again (they are tested in
# test_weights_as_stock.py).
PREDICT = """
from nnunetv2.inference import predict_from_raw_data as prediction
predictor = prediction.nnUNetPredictor
predictor.predict_from_files = lambda self, source, target, **_: self.predict_from_files_sequential(source, target)
prediction.predict_entry_point_modelfolder()
"""
FOUR = "Dataset902_Four"


def flat(plans: dict[str, Any]) -> None:
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network.update(kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]], strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]])


def deeper(plans: dict[str, Any]) -> None:
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network.update(
        n_stages=4,
        features_per_stage=[4, 8, 8, 8],
        strides=[*network["strides"], [1, 2, 1]],  # 20 voxels halve twice only
        kernel_sizes=[[3, 3, 3]] * 4,
        n_conv_per_stage=[1] * 4,
        n_conv_per_stage_decoder=[1] * 3,
    )


def residual(plans: dict[str, Any]) -> None:
    """Make the network that nnU-Net's ResEnc M planner has chosen tiny."""
    tiny_networks(plans)
    for configuration in ("3d_fullres", "2d"):
        network = plans["configurations"][configuration]["architecture"]["arch_kwargs"]
        network["n_blocks_per_stage"] = network.pop("n_conv_per_stage")


def same(plans: dict[str, Any]) -> None:
    """Leave the plans as they are."""


def make_residual_plans() -> None:
    plan_experiments([901], experiment_planner_class_name="nnUNetPlannerResEncM")
    change_plans(residual, source="nnUNetResEncUNetMPlans", target="Residual")


def make_four_channels(raw: Path) -> None:
    write_phantom_dataset(raw, FOUR, cases=5, shape=(22, 34, 28), channels=4)
    extract_fingerprints([902], num_processes=1, check_dataset_integrity=False)
    plan_experiments([902])
    preprocess([902], configurations=["3d_fullres"], num_processes=[1])
    change_plans(tiny_networks, dataset=FOUR)


def pretrained(folders: NnUNetFolders, source: str, configuration: str = "3d_fullres") -> Path:
    """Pretrain for a few steps and return the checkpoint."""
    plans = with_settings("Pretrain", configuration, source=source, epochs=1, iterations=2)
    make_trainer(plans, configuration=configuration).run_training()
    folder = folders.results / DATASET / f"nnUNetTrainerVolF__{plans}__{configuration}"
    return folder / "fold_0" / "checkpoint_final.pth"


def next_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    """Run one of our commands and return its exit code and the command that it says comes next."""
    capsys.readouterr()
    code = main(["weights", *map(str, arguments)])
    said = capsys.readouterr().out
    return code, shlex.split(re.findall(r"^next: (.*)$", said, flags=re.MULTILINE)[-1])


CASES = [
    # name, plans of the pretraining, dataset, change of its plans, configuration, what check says
    ("the same plan", "nnUNetPlans", DATASET, same, "3d_fullres", 0),
    ("two dimensions", "nnUNetPlans", DATASET, same, "2d", 3),
    ("flat kernels and strides", "nnUNetPlans", DATASET, flat, "3d_fullres", 3),
    ("another stage", "nnUNetPlans", DATASET, deeper, "3d_fullres", 3),
    ("four channels", "nnUNetPlans", FOUR, same, "3d_fullres", 3),
    ("ResEnc M", "Residual", DATASET, residual, "3d_fullres", 0),
    ("plain to ResEnc M", "nnUNetPlans", DATASET, residual, "3d_fullres", 3),
]

OFTEN = ("two dimensions", "four channels", "plain to ResEnc M")


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name == "nt", reason="making links asks for rights that users of Windows do not have")
@pytest.mark.parametrize(
    ("source", "dataset", "change", "configuration", "fits"),
    [pytest.param(*c[1:], id=c[0], marks=pytest.mark.slow if c[0] in OFTEN else pytest.mark.weekly) for c in CASES],
)
def test_pretrained_weights_reach_a_stock_prediction(
    source: str,
    dataset: str,
    change: Any,
    configuration: str,
    fits: int,
    phantoms: NnUNetFolders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "1")  # nnU-Net's planner fails with 0
        if source == "Residual" or change is residual:
            make_residual_plans()
        if dataset == FOUR:
            make_four_channels(phantoms.raw)
    target = "nnUNetResEncUNetMPlans" if change is residual else "nnUNetPlans"
    change_plans(change, source=target, target="Target", dataset=dataset)
    number = int(dataset[7:10])
    weights = pretrained(phantoms, source)
    short = ["--set", "epochs=1", "iterations=2"]
    assert (
        main(["settings", str(number), "--fine-tune", "-p", "Target", "-c", configuration, *short, "--as", "Short"])
        == 0
    )

    code, command = next_of(capsys, "check", weights, "-d", number, "-p", "Short", "-c", configuration)
    assert code == fits
    if fits == 3:
        assert command[:3] == ["nnunet-volf", "weights", "adapt"]
        code, command = next_of(capsys, *command[2:])
        assert code == 0

    done = run_nnunet(*command, "-device", "cpu", nnUNet_n_proc_DA="0")
    assert done.returncode == 0, done.stdout + done.stderr
    file = Path(command[-1])
    assert f"{file.name}: " in done.stdout
    trained = phantoms.results / dataset / f"{FINE_TUNER}__Short__{configuration}"

    code, command = next_of(capsys, "export", trained, "--as-stock", "-o", tmp_path / "model")
    assert code == 0
    assert command[0] == "nnUNetv2_predict_from_modelfolder"
    images = tmp_path / "images"
    images.mkdir()
    for image in sorted((phantoms.raw / dataset / "imagesTr").glob("case_000_*")):
        shutil.copy(image, images)
    options = [{"INPUT": str(images), "OUTPUT": str(tmp_path / "out")}.get(word, word) for word in command[1:]]
    done = run_without_package(farm(tmp_path / "packages"), PREDICT, *options, "-device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out" / "case_000.nii.gz")))
    assert set(np.unique(labels)) <= {0, 1, 2}

    exported = torch.load(tmp_path / "model" / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert exported["trainer_name"] == "nnUNetTrainer"
