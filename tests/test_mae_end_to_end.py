"""Masked reconstruction with the real nnU-Net, on phantoms: trained, stopped and continued, carried into a task."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from training import (
    DATASET,
    assert_all_but_heads_are_equal,
    change_plans,
    make_trainer,
    run_nnunet,
    run_until,
    weights_of,
    with_idle_trainer,
    with_settings,
)

from nnunet_volf.discovery import trainers_folder
from nnunet_volf.files import read_json

TRAINER = "nnUNetTrainerMAE"


def train(plans: str, **options: Any) -> Any:
    trainer = make_trainer(plans, TRAINER, **options)
    trainer.run_training()
    trainer.perform_actual_validation()
    return trainer


def folder_of(folders: NnUNetFolders, plans: str, configuration: str = "3d_fullres") -> Path:
    return folders.results / DATASET / f"{TRAINER}__{plans}__{configuration}" / "fold_0"


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_it_trains_and_leaves_what_volume_fusion_leaves(phantoms: NnUNetFolders, configuration: str) -> None:
    plans = with_settings("Masked", configuration, key="volf_mae", panel_every=1)
    train(plans, configuration=configuration)
    folder = folder_of(phantoms, plans, configuration)
    summary = read_json(folder / "pretraining_summary.json")
    assert summary["method"] == "masked reconstruction"
    assert summary["explained"] <= 1
    assert (folder / "pretraining_panel.png").is_file()
    assert (folder / "panels" / "epoch_0001.png").is_file()
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=True)
    kept = checkpoint["nnunet_volf"]
    assert (kept["method"], kept["transfers"]) == ("masked reconstruction", ["encoder", "decoder"])
    assert "head" not in kept
    log = next(folder.glob("training_log*")).read_text()
    assert "blocks are hidden" in log
    assert "Next, fine-tune encoder and decoder on labels" in log


def test_every_channel_is_reconstructed(phantoms: NnUNetFolders) -> None:
    plans = with_settings(key="volf_mae")
    trainer = train(plans)
    heads = [value for name, value in weights_of(folder_of(phantoms, plans) / "checkpoint_final.pth").items()
             if name.endswith("seg_layers.1.weight")]  # fmt: skip
    assert {head.shape[0] for head in heads} == {trainer.num_input_channels}


def test_stock_nnunet_carries_encoder_and_decoder_over(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    plans = with_settings(key="volf_mae")
    train(plans)
    final = folder_of(phantoms, plans) / "checkpoint_final.pth"
    idle = with_idle_trainer(tmp_path / "idle")
    done = run_nnunet(
        *("nnUNetv2_train", DATASET, "3d_fullres", "0", "-tr", "nnUNetTrainerIdle", "-p", "nnUNetPlans"),
        *("-pretrained_weights", str(final), "-device", "cpu"),
        nnUNet_extTrainer=os.pathsep.join((idle, str(trainers_folder()))), nnUNet_n_proc_DA="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [stock] = phantoms.results.glob(f"{DATASET}/nnUNetTrainerIdle__*/fold_0/checkpoint_final.pth")
    assert_all_but_heads_are_equal(weights_of(final), stock)


def test_a_training_that_was_stopped_and_continued_ends_in_the_same_weights(phantoms: NnUNetFolders) -> None:
    whole, stopped = with_settings("Whole", key="volf_mae"), with_settings("Stopped", key="volf_mae")
    train(whole)
    with pytest.raises(SystemExit):
        run_until(make_trainer(stopped, TRAINER), stop_at=4)
    train(stopped, resume=True)
    first, second = (weights_of(folder_of(phantoms, plans) / "checkpoint_final.pth") for plans in (whole, stopped))
    assert all(torch.equal(first[name], value) for name, value in second.items())


def test_one_plan_serves_several_pretexts_each_with_settings_of_its_own(phantoms: NnUNetFolders) -> None:
    def both(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"] |= {"volf": {"epochs": 3}, "volf_mae": {"masked": 0.5}}

    change_plans(both, target="Both")
    assert make_trainer("Both", "nnUNetTrainerVolF").settings.epochs == 3
    assert make_trainer("Both", TRAINER).settings.to_mapping()["masked"] == 0.5


@pytest.mark.slow
def test_it_learns_to_fill_in_what_is_hidden(phantoms: NnUNetFolders) -> None:
    plans = with_settings(
        key="volf_mae", epochs=3, iterations=40, optimizer="adamw", learning_rate=3e-3, block_voxels=[4, 4, 4]
    )
    train(plans)
    summary = read_json(folder_of(phantoms, plans) / "pretraining_summary.json")
    assert summary["explained"] > 0.3
