"""The user's way with the real nnU-Net, on phantoms: pretrain, fine-tune from the weights, predict."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from training import (
    DATASET,
    TRAINER,
    assert_all_but_heads_carried,
    change_plans,
    make_trainer,
    run_nnunet,
    short_stock_trainer,
    weights_of,
    with_settings,
)

from nnunet_volf.discovery import trainers_folder
from nnunet_volf.errors import SettingsError, TrainingError

# It calls no entry points, so our folder has to be named; test_discovery.py shows that later ones need no step.
TORCH_BEFORE_2_5 = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 5)


def fold_folder(folders: NnUNetFolders, plans: str, configuration: str = "3d_fullres", fold: int | str = 0) -> Path:
    return folders.results / DATASET / f"{TRAINER}__{plans}__{configuration}" / f"fold_{fold}"


def train(plans: str, **options: Any) -> Any:
    trainer = make_trainer(plans, **options)
    trainer.run_training()
    trainer.perform_actual_validation()
    return trainer


@pytest.mark.timeout(900)  # three commands, each of which loads nnU-Net and starts workers
def test_stock_commands_pretrain_fine_tune_and_predict(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    plans = with_settings(panel_every=1)
    folders = [short_stock_trainer(tmp_path / "users"), *([trainers_folder()] if TORCH_BEFORE_2_5 else [])]
    environment = {"nnUNet_n_proc_DA": "1", "nnUNet_extTrainer": os.pathsep.join(map(str, folders))}

    done = run_nnunet(
        "nnUNetv2_train", DATASET, "3d_fullres", "0", "-tr", TRAINER, "-p", plans, "-device", "cpu", **environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = fold_folder(phantoms, plans)
    assert f"-pretrained_weights {folder / 'checkpoint_final.pth'}" in done.stdout
    written = {path.name for path in folder.iterdir()}
    assert {"pretraining_summary.json", "pretraining_panel.png", "checkpoint_best.pth", "panels"} <= written
    assert not list(folder.glob("checkpoint_[lp]*")), "latest and previous are for unfinished trainings"

    done = run_nnunet(
        "nnUNetv2_train", DATASET, "3d_fullres", "0", "-tr", "nnUNetTrainerShort", "-p", plans, "-device", "cpu",
        "-pretrained_weights", str(folder / "checkpoint_final.pth"), **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "encoder.stages.0" in done.stdout
    assert "decoder.stages.0" in done.stdout

    predicted = tmp_path / "predicted"
    done = run_nnunet(
        "nnUNetv2_predict", "-i", str(phantoms.raw / DATASET / "imagesTr"), "-o", str(predicted), "-d", DATASET,
        "-c", "3d_fullres", "-f", "0", "-p", plans, "-tr", "nnUNetTrainerShort", "-device", "cpu", "--disable_tta",
        "-npp", "0", "-nps", "0", **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(predicted.glob("*.nii.gz"))) == 6


def test_all_weights_but_the_heads_reach_stock_nnunet(phantoms: NnUNetFolders) -> None:
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    plans = with_settings()
    train(plans)
    checkpoint = fold_folder(phantoms, plans) / "checkpoint_final.pth"
    stock = make_trainer(plans, trainer="nnUNetTrainer")
    stock.initialize()
    load_pretrained_weights(stock.network, str(checkpoint))

    assert_all_but_heads_carried(weights_of(checkpoint), stock.network.state_dict())


def test_the_pretrained_network_itself_predicts_fusion_classes(phantoms: NnUNetFolders) -> None:
    import numpy as np
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    plans = with_settings(coefficients=3, foreground_ratio=0.6)
    train(plans)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(fold_folder(phantoms, plans).parent), (0,))
    image = np.random.default_rng(0).normal(size=(1, 20, 26, 24)).astype(np.float32)
    labels = predictor.predict_single_npy_array(image, {"spacing": [1.0, 1.0, 1.0]}, None, None, False)
    assert labels.shape == image.shape[1:]
    assert labels.max() <= 3


def test_label_files_are_not_needed(phantoms: NnUNetFolders) -> None:
    plans = with_settings()
    data = phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres"
    for file in [*data.glob("*_seg.b2nd"), *data.glob("*.pkl")]:
        file.unlink()
    shutil.rmtree(phantoms.preprocessed / DATASET / "gt_segmentations")
    train(plans)
    assert (fold_folder(phantoms, plans) / "checkpoint_final.pth").is_file()


@pytest.mark.parametrize("augmentation", ["volf", "nnunet", "none"])
@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_every_augmentation_trains_in_2d_and_3d(phantoms: NnUNetFolders, configuration: str, augmentation: str) -> None:
    plans = with_settings(configuration=configuration, augmentation=augmentation, epochs=1)
    train(plans, configuration=configuration)
    summary = json.loads((fold_folder(phantoms, plans, configuration) / "pretraining_summary.json").read_text())
    assert summary["settings"]["augmentation"] == augmentation
    assert len(summary["dice_per_class"]) == 5
    assert sum(map(sum, summary["confusion_true_by_predicted"])) == 4 * (480 if configuration == "2d" else 7680)


@pytest.mark.parametrize("turned", [True, False])
def test_a_turned_foreground_is_not_mirrored_by_nnunets_augmentation(phantoms: NnUNetFolders, turned: bool) -> None:
    trainer = train(with_settings(augmentation="nnunet", turned=turned, epochs=1))
    own = trainer.pretext.sampler(trainer, training=True).augment.transform
    assert ("MirrorTransform" in map(str, (type(one).__name__ for one in own.transforms))) is not turned


def test_strongly_anisotropic_patches_larger_than_the_image_train(phantoms: NnUNetFolders) -> None:
    def flat_patch(plans: dict[str, Any]) -> None:
        configuration = plans["configurations"]["3d_fullres"]
        configuration["patch_size"] = [8, 64, 48]
        configuration["architecture"]["arch_kwargs"].update(
            strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]], kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]]
        )

    change_plans(flat_patch)
    for augmentation in ("volf", "nnunet"):
        trainer = train(with_settings(augmentation=augmentation, epochs=1))
        batch = next(trainer.dataloader_train)
        assert batch["data"].shape == (2, 1, 8, 64, 48)
        assert [tuple(t.shape[2:]) for t in batch["target"]] == [(8, 64, 48), (8, 32, 24)]


def test_several_channels_regions_and_an_ignore_label_are_no_obstacle(phantoms: NnUNetFolders) -> None:
    import blosc2
    import numpy as np

    description = phantoms.preprocessed / DATASET / "dataset.json"
    content = json.loads(description.read_text(encoding="utf-8"))
    content["channel_names"] = {"0": "T1", "1": "T2"}
    content["labels"] = {"background": 0, "whole": [1, 2], "small": 2, "ignore": 3}
    content["regions_class_order"] = [1, 2]
    description.write_text(json.dumps(content), encoding="utf-8")
    for file in (phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres").glob("case_???.b2nd"):
        image = blosc2.open(urlpath=str(file), mode="r")[:]
        file.unlink()
        blosc2.asarray(np.concatenate([image, 2 * image]), urlpath=str(file))

    trainer = train(with_settings())
    assert trainer.label_manager.num_segmentation_heads == 5
    assert not trainer.label_manager.has_regions
    assert not trainer.label_manager.has_ignore_label
    assert next(trainer.dataloader_train)["data"].shape[1] == 2


@pytest.mark.parametrize(("cases", "fold"), [(2, 0), (2, 3), (2, "all"), (1, 0)])
def test_datasets_of_one_or_two_cases_train(phantoms: NnUNetFolders, cases: int, fold: int | str) -> None:
    data = phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres"
    for file in data.iterdir():
        if int(file.name[5:8]) >= cases:
            file.unlink()
    trainer = train(with_settings(epochs=1), fold=fold)
    assert trainer.held_out == (cases == 2 and fold != "all")
    assert not (phantoms.preprocessed / DATASET / "splits_final.json").exists()


def test_fold_all_trains_on_every_case_and_says_what_it_validates_on(phantoms: NnUNetFolders) -> None:
    plans = with_settings(epochs=1)
    trainer = train(plans, fold="all")
    assert len(trainer.dataloader_train.data_loader.indices) == 6
    log = next(fold_folder(phantoms, plans, fold="all").glob("training_log*")).read_text()
    assert "Validation samples are made from training cases" in log


def test_validation_is_the_same_from_epoch_to_epoch_and_from_run_to_run(phantoms: NnUNetFolders) -> None:
    plans = with_settings()
    first, second = (train(plans) for _ in range(2))
    for a, b in zip(first.dataloader_val._batches, second.dataloader_val._batches, strict=True):
        assert torch.equal(a["data"], b["data"])
        assert all(torch.equal(x, y) for x, y in zip(a["target"], b["target"], strict=True))


def test_the_second_stage_of_a_cascade_is_refused(phantoms: NnUNetFolders) -> None:
    def cascade(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_cascade_fullres"] = {
            "inherits_from": "3d_fullres",
            "previous_stage": "3d_lowres",
        }

    change_plans(cascade, target="Cascade")
    with pytest.raises(TrainingError, match=r"second stage of a cascade.*Pretrain 3d_fullres or 3d_lowres instead"):
        make_trainer("Cascade", configuration="3d_cascade_fullres")


def test_impossible_settings_are_refused_before_a_folder_is_made(phantoms: NnUNetFolders) -> None:
    with pytest.raises(SettingsError, match=r"set it to 0\.72 or less"):
        make_trainer(with_settings(foreground_ratio=0.8, turned=False))
    assert not list(phantoms.results.iterdir())


def test_val_scores_a_finished_training_again(phantoms: NnUNetFolders) -> None:
    plans = with_settings()
    train(plans)
    summary = fold_folder(phantoms, plans) / "pretraining_summary.json"
    before = json.loads(summary.read_text())
    summary.unlink()
    trainer = make_trainer(plans)
    trainer.load_checkpoint(str(summary.with_name("checkpoint_final.pth")))
    trainer.perform_actual_validation()
    assert json.loads(summary.read_text()) == before


def test_settings_change_the_training_and_travel_with_the_checkpoint(phantoms: NnUNetFolders) -> None:
    plans = with_settings(optimizer="adamw", epochs=1, weight_decay=0.01, coefficients=2, foreground_ratio=0.5)
    trainer = train(plans)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.01
    folder = fold_folder(phantoms, plans)
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["nnunet_volf"]["settings"]["optimizer"] == "adamw"
    assert checkpoint["network_weights"]["decoder.seg_layers.0.weight"].shape[0] == 3
    copied = json.loads((folder.parent / "plans.json").read_text())
    assert copied["configurations"]["3d_fullres"]["volf"]["coefficients"] == 2


def test_the_loss_counts_the_background_and_takes_dice_over_the_batch(phantoms: NnUNetFolders) -> None:
    trainer = make_trainer(with_settings())
    trainer.initialize()
    dice = trainer.loss.loss.loss.dc
    assert dice.do_bg
    assert dice.batch_dice
    assert trainer.loss.loss.weight_factors == pytest.approx((1.0, 0.0)), "nnU-Net's own deep supervision"


def test_residual_encoder_plans_train(phantoms: NnUNetFolders) -> None:
    def residual(plans: dict[str, Any]) -> None:
        network = plans["configurations"]["3d_fullres"]["architecture"]
        network["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
        network["arch_kwargs"]["n_blocks_per_stage"] = network["arch_kwargs"].pop("n_conv_per_stage")

    change_plans(residual)
    train(with_settings(epochs=1))
