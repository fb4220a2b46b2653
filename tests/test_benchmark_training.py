"""One training of a benchmark with the real nnU-Net, and the dataset that it must not touch."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import SimpleITK
import torch
from conftest import NnUNetFolders
from training import DATASET
from training import make_trainer as nnunet_trainer

from nnunet_volf.benchmark import prediction
from nnunet_volf.benchmark.asking import Request, make_experiment
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.folder import open_folder, outcome_of
from nnunet_volf.benchmark.results import Run
from nnunet_volf.benchmark.subsets import subset
from nnunet_volf.benchmark.training import carry_out, load, make_trainer
from nnunet_volf.errors import BenchmarkError, DataError, SettingsError, WeightsError
from nnunet_volf.preprocessing.occurrences import Occurrences
from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.weights.names import canonical_name

ASKED = Request(DATASET, labels=("1", "2"), seeds=1, epochs=2, iterations=2, mirroring=False)


def write_weights(path: Path, dataset: str = "Dataset777_Elsewhere", method: str = "") -> Path:
    """Write the random network of the phantoms' plans as if it had been trained on another dataset, by a method."""
    trainer = nnunet_trainer("nnUNetPlans", "nnUNetTrainer")
    trainer.initialize()
    trainer.save_checkpoint(str(path))
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["init_args"]["plans"]["dataset_name"] = dataset
    if method:
        known = METHODS[method]
        checkpoint["nnunet_volf"] = {"method": known.label, "transfers": list(known.transfers)}
    torch.save(checkpoint, path)
    return path


def question(tmp_path: Path, **asked: Any) -> Experiment:
    return make_experiment(replace(ASKED, **asked), Occurrences(tmp_path / "images.json"))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_a_training_scores_the_test_cases_and_touches_nothing_of_the_users(
    phantoms: NnUNetFolders, tmp_path: Path, configuration: str
) -> None:
    before = [contents(folder) for folder in phantoms]
    experiment = question(tmp_path, configuration=configuration)
    (run,) = [run for run in experiment.runs() if run.labels == 2 and run.arm == "stock"]
    open_folder(tmp_path / "b", experiment)
    outcome = carry_out(tmp_path / "b", run.name, "cpu")
    assert [contents(folder) for folder in phantoms] == before
    assert outcome_of(tmp_path / "b", run) == outcome
    cases = experiment.cases[0]
    assert outcome.training_cases == subset(cases.pool, 2, 1)
    assert {(score.case, score.label) for score in outcome.scores} == {
        (case, name) for case in cases.test for name in ("large", "small")
    }
    assert all(score.dice is None or 0 <= score.dice <= 1 for score in outcome.scores)
    assert len(outcome.curve) == 2
    assert outcome.conditions.keys() >= {"torch", "nnunetv2", "nnunet-volf", "device"}
    left = {path.name for path in (tmp_path / "b" / "runs" / run.name).iterdir()}
    assert left == {"result.json", "predictions"}  # no checkpoints: a benchmark of 48 trainings would fill a disk
    assert {path.name for path in (tmp_path / "b" / "runs" / run.name / "predictions").iterdir()} == {
        f"{case}.nii.gz" for case in cases.test
    }


@pytest.mark.slow
def test_processes_that_export_while_a_gpu_predicts_give_the_same_scores(
    phantoms: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = question(tmp_path, arms=("scratch",), labels=("1",), epochs=1, iterations=1)
    (run,) = experiment.runs()
    outcomes = []
    for processes in (0, 2):
        monkeypatch.setattr(prediction, "_processes", lambda _device, number=processes: number)
        open_folder(tmp_path / str(processes), experiment)
        outcomes.append(carry_out(tmp_path / str(processes), run.name, "cpu"))
    assert outcomes[0].scores == outcomes[1].scores
    assert len(outcomes[0].scores) == 4


def test_the_dice_is_twice_the_overlap_over_the_sum_of_the_voxels(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    experiment = question(tmp_path, arms=("scratch",), labels=("2",), epochs=1)
    open_folder(tmp_path / "b", experiment)
    (run,) = experiment.runs()
    outcome = carry_out(tmp_path / "b", run.name, "cpu")
    for score in outcome.scores:
        truth, found = (
            SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / f"{score.case}.nii.gz")))
            == {"large": 1, "small": 2}[score.label]
            for folder in (
                phantoms.preprocessed / DATASET / "gt_segmentations",
                tmp_path / "b" / "runs" / run.name / "predictions",
            )
        )
        assert score.dice == pytest.approx(2 * (truth & found).sum() / (truth.sum() + found.sum()))


def test_all_arms_of_a_seed_begin_with_the_same_network_and_share_the_schedule(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    weights = write_weights(tmp_path / "w.pth")
    asked = {"arms": ("scratch", "stock", "encoder", "volf"), "epochs": 3, "iterations": 7}
    experiment = question(tmp_path, pretrained=str(weights), validation_iterations=2, **asked)
    networks = {}
    for name in ("scratch", "stock", "encoder", "volf"):
        torch.manual_seed(5)
        trainer = make_trainer(experiment, Run(name, 2, 1, 0), torch.device("cpu"))
        assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (3, 7)
        assert trainer.num_val_iterations_per_epoch == 2
        assert trainer.disable_checkpointing
        trainer.initialize()
        if experiment.arm(name).weights is not None:
            load(trainer, experiment.arm(name))
        networks[name] = {key: tensor.clone() for key, tensor in trainer.network.state_dict().items()}
    stored = weights_of_unsafe(weights)
    for key, initial in networks["scratch"].items():
        is_encoder, is_head = canonical_name(key).startswith("encoder."), ".seg_layers." in key
        assert torch.equal(networks["stock"][key], initial)
        assert torch.equal(networks["encoder"][key], stored[key] if is_encoder else initial), key
        assert torch.equal(networks["volf"][key], initial if is_head else stored[key]), key


def test_weights_of_an_encoder_are_one_arm_named_after_its_method_with_scratchs_decoder(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    weights = write_weights(tmp_path / "w.pth", method="voco")
    experiment = question(tmp_path, pretrained=str(weights))
    assert [(arm.name, arm.scope) for arm in experiment.arms] == [
        ("scratch", "all"),
        ("voco", "encoder"),
        ("stock", "all"),
    ]
    networks = {}
    for name in ("scratch", "voco"):
        torch.manual_seed(5)
        trainer = make_trainer(experiment, Run(name, 2, 1, 0), torch.device("cpu"))
        trainer.initialize()
        if name == "voco":
            load(trainer, experiment.arm(name))
        networks[name] = {key: tensor.clone() for key, tensor in trainer.network.state_dict().items()}
    stored = weights_of_unsafe(weights)
    for key, initial in networks["scratch"].items():
        is_encoder = canonical_name(key).startswith("encoder.")
        assert torch.equal(networks["voco"][key], stored[key] if is_encoder else initial), key


def test_methods_with_files_of_their_own_are_each_checked_for_leaks(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    volf, mae = (write_weights(tmp_path / f"{name}.pth", method=name) for name in ("volf", "mae"))
    experiment = question(tmp_path, arms=(f"volf={volf}", f"mae={mae}"))
    assert [(arm.name, arm.weights) for arm in experiment.arms[1:]] == [("volf", str(volf)), ("mae", str(mae))]
    assert [said.split(":")[0] for said in experiment.data["leakage"][:2]] == ["volf (volf.pth)", "mae (mae.pth)"]
    assert experiment.data["weights"].keys() == {"volf", "mae"}
    assert Experiment.from_mapping(experiment.to_mapping()) == experiment
    leaking = write_weights(tmp_path / "leaking.pth", dataset=DATASET, method="slem")
    with pytest.raises(BenchmarkError, match="were pretrained on"):
        question(tmp_path, arms=(f"volf={volf}", f"slem={leaking}"))


def test_weights_of_another_method_than_the_arm_is_called_after_are_refused(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    mae = write_weights(tmp_path / "mae.pth", method="mae")
    with pytest.raises(BenchmarkError, match=r"mae\.pth is of masked reconstruction \(MAE\): call that arm mae"):
        question(tmp_path, arms=(f"volf={mae}",))


def weights_of_unsafe(path: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=False)["network_weights"]
    return loaded


def test_a_factor_changes_the_learning_rate_of_every_trainer(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    experiment = question(tmp_path, rates=(0.5, 1.0), settings={"optimizer": "sgd", "learning_rate": 0.02})
    for name, at_one in (("scratch", 0.02), ("stock", 0.01)):
        for factor in (0.5, 1.0):
            trainer = make_trainer(experiment, Run(name, 2, 1, 0, factor), torch.device("cpu"))
            rate = trainer.settings.peak_learning_rate if name == "scratch" else trainer.initial_lr
            assert rate == pytest.approx(at_one * factor)


def test_the_folds_are_those_that_nnunet_would_make_and_no_file_is_written(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    experiment = question(tmp_path, folds=(0, 3))
    assert not (phantoms.preprocessed / DATASET / "splits_final.json").exists()
    for fold in (0, 3):
        trainer = nnunet_trainer("nnUNetPlans", "nnUNetTrainer", fold=fold)
        training, validation = trainer.do_split()
        cases = experiment.cases[fold]
        assert set(cases.test) == set(validation)
        assert {*cases.pool, *cases.validation} == set(training)


def test_test_cases_that_were_pretrained_on_are_left_out(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    all_seen = write_weights(tmp_path / "w.pth", dataset=DATASET)
    with pytest.raises(BenchmarkError, match=r"None of the 2 test cases of fold 0 can be used: 2 of them were pretr"):
        question(tmp_path, pretrained=str(all_seen))


def test_weights_of_a_fold_that_held_the_test_cases_out_are_fine(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.pth", dataset=DATASET)
    checkpoint = torch.load(path, weights_only=False)
    for fold, leaks in (("0", False), ("1", True)):
        checkpoint["nnunet_volf"] = {"method": "volume fusion", "data": {"fold": fold, "cases": 4}}
        torch.save(checkpoint, path)
        if leaks:
            with pytest.raises(BenchmarkError, match="were pretrained on"):
                question(tmp_path, pretrained=str(path))
        else:
            said = question(tmp_path, pretrained=str(path)).data["leakage"]
            assert said[0] == f"encoder, volf (w.pth): compared with the images of 4 cases of {DATASET}."


def test_an_unknown_archive_is_said_to_be_unchecked(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    said = question(tmp_path, pretrained=str(write_weights(tmp_path / "w.pth"))).data["leakage"]
    assert said[0] == (
        "encoder, pretrained (w.pth): Dataset777_Elsewhere, which it was pretrained on, is not in nnUNet_raw, so it "
        "could not be compared."
    )


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"folds": (7,)}, DataError, "There is no fold 7: nnU-Net has 5 folds."),
        ({"folds": ()}, BenchmarkError, "--folds names no fold."),
        ({"configuration": "3d_lowres"}, DataError, "has no configuration '3d_lowres'"),
        ({"pretrained": "no.pth"}, WeightsError, "no.pth, the weights of --pretrained, is not there."),
        ({"arms": ("voco=no.pth",)}, WeightsError, "no.pth, the weights of the arm voco, is not there."),
        ({"seeds": 0}, BenchmarkError, "--seeds is 0; it must be 1 or more."),
        ({"epochs": 0}, BenchmarkError, "--epochs is 0; it must be 1 or more."),
        ({"validation_iterations": -1}, BenchmarkError, "--validation-iterations is -1; it must be 1 or more."),
        ({"rates": (1.0, 0.0)}, BenchmarkError, "--rates has 0; it must be above 0."),
        ({"tolerance": -2.0}, BenchmarkError, "--tolerance has -2; it must be above 0."),
        ({"settings": {"epochs": 5}}, BenchmarkError, "--set epochs=…: all arms share the schedule, stock too"),
        ({"settings": {"optimiser": "sgd"}}, SettingsError, "There is no setting 'optimiser'."),
        ({"labels": ("4",)}, BenchmarkError, "--labels 4: there are 3 labelled cases to draw from"),
    ],
)
def test_what_could_not_be_answered_is_refused_before_any_training(
    phantoms: NnUNetFolders, tmp_path: Path, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refused:
        question(tmp_path, **asked)
    assert message in str(refused.value)


def test_weights_that_do_not_fit_are_refused_with_the_command_that_adapts_them(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    path = write_weights(tmp_path / "w.pth")
    checkpoint = torch.load(path, weights_only=False)
    first = "encoder.stages.0.0.convs.0.conv.weight"
    checkpoint["network_weights"] = {
        name: torch.cat([tensor, tensor], 1) if name.endswith(first) else tensor
        for name, tensor in checkpoint["network_weights"].items()
    }
    torch.save(checkpoint, path)
    with pytest.raises(WeightsError, match="does not fit Dataset901_Phantom"):
        question(tmp_path, pretrained=str(path))


def test_a_dataset_that_is_not_preprocessed_for_the_configuration_is_refused_with_the_command(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    folder = phantoms.preprocessed / DATASET / "nnUNetPlans_2d"
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(BenchmarkError, match="nnUNetv2_preprocess -d 901 -plans_name nnUNetPlans -c 2d"):
        question(tmp_path, configuration="2d")


def test_a_class_with_the_name_of_the_mean_is_refused(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    path = phantoms.preprocessed / DATASET / "dataset.json"
    path.write_text(path.read_text().replace('"small"', '"mean"'))
    with pytest.raises(BenchmarkError, match="A class of Dataset901_Phantom is called 'mean'"):
        question(tmp_path)
