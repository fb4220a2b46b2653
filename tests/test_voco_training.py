"""VoCo in the real nnU-Net, on phantoms: trains, goes on where it was killed, hands its encoder to stock nnU-Net."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from matplotlib import image as pictures
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from often import often
from training import (
    DATASET,
    FEW_STEPS,
    assert_all_but_heads_carried,
    change_plans,
    die_in_the_second_epoch,
    make_trainer,
    run_nnunet,
    short_stock_trainer,
    weights_of,
)

from nnunet_volf.discovery import trainers_folder
from nnunet_volf.errors import SettingsError, TrainingError

TRAINER = "nnUNetTrainerVoCo"
LATEST, FINAL = "checkpoint_latest.pth", "checkpoint_final.pth"
NETWORKS = ["plain", "residual", "PCTNet"]


pytestmark = pytest.mark.usefixtures("no_curves")


def voco_plans(name: str = "VoCo", network: str = "plain", configuration: str = "3d_fullres", **settings: Any) -> str:
    """Write plans with these settings and a network, and return their name."""

    def change(plans: dict[str, Any]) -> None:
        chosen = plans["configurations"][configuration]
        chosen["volf_voco"] = {**FEW_STEPS, "width": 16, **settings}
        entry = chosen["architecture"]
        if network == "residual":
            entry["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
            entry["arch_kwargs"]["n_blocks_per_stage"] = entry["arch_kwargs"].pop("n_conv_per_stage")
        elif network == "PCTNet":
            kept = ("n_stages", "conv_op", "kernel_sizes", "strides", "features_per_stage")
            arguments = {name: entry["arch_kwargs"][name] for name in kept} | {"window_size": 2}
            entry.update(
                network_class_name="nnunet_volf.networks.PCTNet", arch_kwargs=arguments, _kw_requires_import=["conv_op"]
            )

    change_plans(change, target=name)
    return name


def trainer_for(plans: str, configuration: str = "3d_fullres", resume: bool = False) -> Any:
    return make_trainer(plans, TRAINER, configuration, resume=resume)


def folder_of(folders: NnUNetFolders, plans: str, configuration: str = "3d_fullres") -> Path:
    return folders.results / DATASET / f"{TRAINER}__{plans}__{configuration}" / "fold_0"


def head_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    head: dict[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["nnunet_volf"]["head"]
    return head


@pytest.mark.parametrize("network", NETWORKS)
def test_the_encoder_is_trained_the_decoder_is_not_and_stock_nnunet_takes_both(
    phantoms: NnUNetFolders, network: str
) -> None:
    plans = voco_plans(network=network)
    trainer = trainer_for(plans)
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run_training()
    checkpoint = folder_of(phantoms, plans) / FINAL
    weights = weights_of(checkpoint)

    unchanged = {name for name, value in weights.items() if torch.equal(value, before[name])}
    assert all(name in unchanged for name in weights if name.startswith("decoder.") and ".encoder." not in name)
    trained = [name for name in weights if name.startswith("encoder.") and name.endswith("weight")]
    assert trained
    assert not unchanged & set(trained)

    stock = make_trainer(plans, "nnUNetTrainer")
    stock.initialize()
    load_pretrained_weights(stock.network, str(checkpoint))
    carried = stock.network.state_dict()
    assert_all_but_heads_carried(weights, carried)


def test_the_checkpoint_says_what_it_is_and_what_to_take_from_it(phantoms: NnUNetFolders) -> None:
    plans = voco_plans(panel_every=1)
    trainer = trainer_for(plans)
    trainer.run_training()
    trainer.perform_actual_validation()
    folder = folder_of(phantoms, plans)
    kept = torch.load(folder / FINAL, map_location="cpu", weights_only=True)["nnunet_volf"]
    assert kept["method"] == "volume contrast"
    assert kept["transfers"] == ["encoder"]
    assert kept["settings"]["variant"] == "v1"
    assert {name.split(".")[0] for name in kept["head"]} == {"projector", "teacher_encoder", "teacher_projector"}
    summary = json.loads((folder / "pretraining_summary.json").read_text())
    assert -1 <= summary["position_correlation"] <= 1
    for picture in (folder / "pretraining_panel.png", folder / "panels" / "epoch_0001.png"):
        assert pictures.imread(picture).shape[0] > 400
    log = "".join(path.read_text() for path in folder.glob("training_log*"))
    assert "Each region of 16 x 24 x 24 voxels holds 2 x 2 x 3 = 12 base crops of 8 x 12 x 8 voxels" in log
    assert "Position correlation r" in log
    assert "fine-tune encoder on labels" in log


@pytest.mark.parametrize("network", often(NETWORKS, "plain"))
@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_killed_and_continued_it_ends_in_identical_weights_of_network_teacher_and_projector(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, network: str, variant: str
) -> None:
    calm, killed = (voco_plans(name, network, variant=variant) for name in ("Calm", "Killed"))
    trainer_for(calm).run_training()
    die_in_the_second_epoch(trainer_for(killed))
    assert (folder_of(phantoms, killed) / LATEST).is_file()
    trainer_for(killed, resume=True).run_training()

    for read in (weights_of, head_of):
        one, other = (read(folder_of(phantoms, plans) / FINAL) for plans in (calm, killed))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_teacher_lags_behind_by_its_momentum(phantoms: NnUNetFolders) -> None:
    """After the only step the teacher is where the student began; after the second, a tenth of the way on."""
    folder = phantoms
    plans = voco_plans(epochs=1, iterations=2)
    trainer = trainer_for(plans)
    trainer.initialize()
    students = []
    step = trainer.train_step

    def note(batch: dict[str, Any]) -> Any:
        students.append(trainer.network.head.projector[0].weight.detach().clone())
        return step(batch)

    trainer.train_step = note
    trainer.run_training()
    expected = 0.9 * students[0] + 0.1 * students[1]
    torch.testing.assert_close(head_of(folder_of(folder, plans) / FINAL)["teacher_projector.0.weight"], expected)
    assert not torch.equal(students[0], students[1])


@pytest.mark.parametrize(("name", "value"), [("width", 8), ("variant", "v2")])
def test_what_shapes_the_head_may_not_change_when_a_training_goes_on(
    phantoms: NnUNetFolders, name: str, value: Any
) -> None:
    del phantoms
    trainer_for(voco_plans(epochs=1)).run_training()
    with pytest.raises(TrainingError, match=rf"{name} \w+ -> {value}"):
        trainer_for(voco_plans(**{name: value}), resume=True)


def test_2d_configurations_train(phantoms: NnUNetFolders) -> None:
    plans = voco_plans(configuration="2d", epochs=1)
    trainer = trainer_for(plans, "2d")
    trainer.run_training()
    trainer.perform_actual_validation()
    assert next(trainer.dataloader_train)["data"].shape == (2, 10, 1, 12, 8)
    assert (folder_of(phantoms, plans, "2d") / "pretraining_panel.png").is_file()


def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(phantoms: NnUNetFolders) -> None:
    with pytest.raises(SettingsError, match="8 x 8 x 6 voxels do not divide"):
        trainer_for(voco_plans(crop=[8, 8, 6]))
    assert not list(phantoms.results.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)  # two commands, each of which loads nnU-Net and starts workers
def test_stock_commands_pretrain_and_fine_tune(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    plans = voco_plans(epochs=1)
    environment = {
        "nnUNet_n_proc_DA": "1",
        "nnUNet_extTrainer": os.pathsep.join((str(short_stock_trainer(tmp_path / "users")), str(trainers_folder()))),
    }
    options = ("-p", plans, "-device", "cpu")
    done = run_nnunet("nnUNetv2_train", DATASET, "3d_fullres", "0", "-tr", TRAINER, *options, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    checkpoint = str(folder_of(phantoms, plans) / FINAL)
    options = (*options, "-tr", "nnUNetTrainerShort", "-pretrained_weights", checkpoint)
    done = run_nnunet("nnUNetv2_train", DATASET, "3d_fullres", "0", *options, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "encoder.stages.0" in done.stdout
