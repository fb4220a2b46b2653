"""A fine-tuned model leaves for an nnU-Net without this package."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import NnUNetFolders
from training import DATASET, FINE_TUNER, TRAINER, make_trainer, run_nnunet, with_fine_tuning, with_settings
from weight_files import plans_of, random_tensors
from without_package import FIND_US, farm, run_without_package

from nnunet_volf.cli import main
from nnunet_volf.discovery import trainers_folder
from nnunet_volf.weights.as_stock import checkpoints_of, without_ours
from nnunet_volf.weights.target import task_of_plans

PREDICT = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as main; main()"


def fine_tuned(folders: NnUNetFolders, fold: int = 0, **settings: Any) -> Path:
    """Train a little on phantoms and return the folder of the training."""
    plans = with_fine_tuning(epochs=1, **settings)
    make_trainer(plans, trainer=FINE_TUNER, fold=fold).run_training()
    return folders.results / DATASET / f"{FINE_TUNER}__{plans}__3d_fullres"


def export(source: Path, output: Path) -> int:
    return main(["weights", "export", str(source), "--as-stock", "-o", str(output)])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="making links asks for rights that users of Windows do not have")
@pytest.mark.timeout(900)  # three processes, each of which loads nnU-Net and starts workers
def test_an_environment_without_this_package_predicts_the_same_voxels(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    training = fine_tuned(phantoms, iterations=20, learning_rate=0.01)
    assert export(training, tmp_path / "model") == 0
    images = tmp_path / "images"
    images.mkdir()
    for name in ("case_000_0000.nii.gz", "case_001_0000.nii.gz"):
        shutil.copy(phantoms.raw / DATASET / "imagesTr" / name, images)
    options = ["-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1", "--save_probabilities"]

    done = run_nnunet(
        "nnUNetv2_predict_from_modelfolder", "-i", str(images), "-o", str(tmp_path / "with"), "-m", str(training),
        *options, nnUNet_extTrainer=str(trainers_folder()),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    packages = farm(tmp_path / "packages")
    done = run_without_package(packages, FIND_US)
    assert done.returncode == 0, done.stderr
    arguments = ["-i", str(images), "-o", str(tmp_path / "without"), "-m", str(tmp_path / "model"), *options]
    done = run_without_package(packages, PREDICT, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr

    for case in ("case_000", "case_001"):
        first, second = (tmp_path / where / f"{case}.nii.gz" for where in ("with", "without"))
        labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(first)))
        assert np.array_equal(labels, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(second))))
        probabilities = [np.load(path.with_name(f"{case}.npz"))["probabilities"] for path in (first, second)]
        assert np.array_equal(*probabilities)
        assert np.std(probabilities[0]) > 0, "a network that says the same everywhere would prove nothing"


@pytest.mark.skipif(os.name == "nt", reason="making links asks for rights that users of Windows do not have")
def test_the_environment_without_this_package_cannot_predict_with_what_was_not_exported(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    training = fine_tuned(phantoms)
    images = str(phantoms.raw / DATASET / "imagesTr")
    options = ["-i", images, "-o", str(tmp_path / "none"), "-m", str(training), "-f", "0", "-device", "cpu"]
    done = run_without_package(farm(tmp_path / "packages"), PREDICT, *options)
    assert done.returncode != 0
    assert FINE_TUNER in done.stdout + done.stderr
    assert not list((tmp_path / "none").glob("*.nii.gz"))


def test_all_finished_folds_go_and_unfinished_ones_are_named(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in (0, 1):
        training = fine_tuned(phantoms, fold=fold)
    (training / "fold_2").mkdir()
    capsys.readouterr()
    model = tmp_path / "new" / "model"
    assert export(training, model) == 0
    said = capsys.readouterr().out
    assert "folds 0, 1\n" in said
    assert "not finished: folds 2" in said
    assert f"next: nnUNetv2_predict_from_modelfolder -i INPUT -o OUTPUT -m {model} -f 0 1\n" in said
    assert f"nnUNet_results/{DATASET}/nnUNetTrainer__Fine__3d_fullres" in said
    written = {str(path.relative_to(model).as_posix()) for path in model.rglob("*") if path.is_file()}
    assert written == {
        "dataset.json", "plans.json", "dataset_fingerprint.json", "fold_0/checkpoint_final.pth",
        "fold_1/checkpoint_final.pth",
    }  # fmt: skip


def test_nothing_of_this_package_is_asked_for_in_what_goes_out(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    export(fine_tuned(phantoms), tmp_path / "model")
    plans = json.loads((tmp_path / "model" / "plans.json").read_text())
    assert "volf" not in json.dumps(plans).lower()
    checkpoint = torch.load(tmp_path / "model" / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["init_args"]["plans"] == plans
    assert "optimizer_state" not in checkpoint
    assert checkpoint["inference_allowed_mirroring_axes"] == (0, 1, 2)


def test_a_model_put_where_the_message_says_is_found_by_its_dataset(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.file_path_utilities import get_output_folder

    training = fine_tuned(phantoms)
    export(training, tmp_path / "model")
    shutil.move(tmp_path / "model", training.parent / "nnUNetTrainer__Fine__3d_fullres")
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    folder = get_output_folder(DATASET, "nnUNetTrainer", "Fine", "3d_fullres")
    predictor.initialize_from_trained_model_folder(folder, None)
    trained = torch.load(training / "fold_0" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    loaded = predictor.list_of_parameters[0]
    assert loaded.keys() == trained.keys()
    assert all(torch.equal(loaded[name], trained[name]) for name in trained)


def test_clean_up_rules_go_with_the_model(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    training = fine_tuned(phantoms)
    rules = training / "crossval_results_folds_0"
    rules.mkdir()
    (rules / "postprocessing.pkl").write_bytes(b"rules")
    (rules / "summary.json").write_text("{}")
    export(training, tmp_path / "model")
    copied = tmp_path / "model" / "crossval_results_folds_0"
    assert [path.name for path in copied.iterdir()] == ["postprocessing.pkl"]
    assert (copied / "postprocessing.pkl").read_bytes() == b"rules"


@pytest.mark.parametrize("which", ["fold_1/checkpoint_final.pth", "fold_1/checkpoint_best.pth", "fold_1"])
def test_one_checkpoint_or_one_fold_can_be_named(phantoms: NnUNetFolders, tmp_path: Path, which: str) -> None:
    training = fine_tuned(phantoms, fold=1)
    assert export(training / which, tmp_path / "model") == 0
    assert [path.name for path in (tmp_path / "model").glob("fold_*/*")] == ["checkpoint_final.pth"]
    assert (tmp_path / "model" / "fold_1").is_dir()


def test_stock_nnunets_own_checkpoints_can_be_exported_too(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    trainer = make_trainer("nnUNetPlans", trainer="nnUNetTrainer")
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    assert export(tmp_path / "checkpoint_final.pth", tmp_path / "model") == 0
    assert (tmp_path / "model" / "fold_0" / "checkpoint_final.pth").is_file()


def test_the_second_stage_of_a_cascade_is_predicted_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = plans_of()
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1, "other": 2}}
    task = task_of_plans(plans, "3d_cascade_fullres", dataset)
    init = {"plans": plans, "configuration": task.configuration, "fold": 0, "dataset_json": dataset}
    torch.save({"network_weights": random_tensors(task), "init_args": init}, tmp_path / "in.pth")
    assert export(tmp_path / "in.pth", tmp_path / "model") == 0
    said = capsys.readouterr().out
    assert said.endswith(f"-m {tmp_path / 'model'} -f 0 -prev_stage_predictions FOLDER\n")


def test_a_pretraining_is_refused_with_what_to_do(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = with_settings(epochs=1)
    make_trainer(plans).run_training()
    training = phantoms.results / DATASET / f"{TRAINER}__{plans}__3d_fullres"
    assert export(training, tmp_path / "model") == 2
    said = capsys.readouterr().err
    assert "is a pretraining by Volume Fusion, which segments no labels" in said
    assert "Fine-tune it on labels first" in said
    assert list(tmp_path.glob("model*")) == []


def test_folds_of_different_plans_are_refused_and_nothing_stays(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = fine_tuned(phantoms)
    shutil.copytree(training / "fold_0", training / "fold_1")
    path = training / "fold_1" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["init_args"]["plans"]["configurations"]["3d_fullres"]["spacing"] = [2.0, 2.0, 2.0]
    torch.save(checkpoint, path)
    assert export(training, tmp_path / "model") == 2
    assert f"{path} was trained with another plans than the folds before it" in capsys.readouterr().err
    assert list(tmp_path.glob("model*")) == []


def test_a_folder_without_a_finished_fold_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "training" / "fold_3").mkdir(parents=True)
    assert export(tmp_path / "training", tmp_path / "model") == 2
    assert "no fold_*/checkpoint_final.pth. It has: 3." in capsys.readouterr().err


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    assert export(tmp_path / "any", tmp_path / "model") == 2
    assert "model exists. Choose another name with -o, or remove it first" in capsys.readouterr().err


def test_terms_are_refused_since_there_is_no_card_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["weights", "export", "any", "--as-stock", "-o", str(tmp_path / "model"), "--license", "MIT"]
    assert main(arguments) == 2
    assert "--as-stock writes none" in capsys.readouterr().err


def test_only_keys_of_this_package_are_taken_out_of_plans() -> None:
    plans = {
        "dataset_name": "Dataset001_A",
        "volf_target": None,
        "configurations": {"2d": {"volf": {"epochs": 1}, "volf_finetune": {}, "spacing": [1, 1]}},
    }
    assert without_ours(plans) == {"dataset_name": "Dataset001_A", "configurations": {"2d": {"spacing": [1, 1]}}}


def test_a_lone_file_becomes_fold_0(tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    assert checkpoints_of(tmp_path / "model.pth") == ({"0": tmp_path / "model.pth"}, ())
