"""`plan` and `pretrain` with --architecture: a labelled dataset gets plans with another network, an archive follows."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders
from training import (
    DATASET,
    TRAINER,
    change_plans,
    run_nnunet,
    with_idle_trainer,
)
from unlabeled import NAME, import_scans, write_scans

from nnunet_volf.cli import main
from nnunet_volf.networks.context_plans import without_context
from nnunet_volf.next_commands import commands_after_pretraining
from nnunet_volf.plans import TARGET_KEY
from nnunet_volf.preprocessing.planners import Planner

Capture = pytest.CaptureFixture[str]
PCTNET = "nnunet_volf.networks.PCTNet"
CONTEXT = "nnunet_volf.networks.ContextUNet"
SHORT = ["epochs=1", "iterations=1", "validation_samples=1", "panel_every=0"]


@pytest.fixture
def archive(phantoms: NnUNetFolders, tmp_path: Path) -> NnUNetFolders:
    """The labelled phantoms are dataset 901; the unlabeled archive is dataset 501."""
    write_scans(tmp_path / "scans", 3)
    import_scans(tmp_path / "scans", "--channels", "phantom0")
    return phantoms


@pytest.fixture
def plan(capsys: Capture) -> Callable[..., str]:
    """Plan, and return what was printed."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["plan", "-np", "0", *arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys: Capture) -> Callable[..., str]:
    """Ask for something that is refused, and return the message."""

    def run(command: str, *arguments: str) -> str:
        capsys.readouterr()
        assert main([command, "-np", "0", *arguments]) == 2
        return capsys.readouterr().err

    return run


def file_of(folders: NnUNetFolders, name: str = "nnUNetPCTNetPlans", dataset: str = DATASET) -> Path:
    return folders.preprocessed / dataset / f"{name}.json"


def plans_of(folders: NnUNetFolders, name: str = "nnUNetPCTNetPlans", dataset: str = DATASET) -> dict[str, Any]:
    plans: dict[str, Any] = json.loads(file_of(folders, name, dataset).read_text(encoding="utf-8"))
    return plans


def trained(folders: NnUNetFolders, dataset: str, name: str, trainer: str = "nnUNetTrainer") -> None:
    fold = folders.results / dataset / f"{trainer}__{name}__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_latest.pth").touch()


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


# ------------------------------------------------------------------------------------------------ labelled datasets


def test_a_labelled_dataset_gets_plans_with_the_network_beside_its_own_and_its_preprocessed_data_serves(
    phantoms: NnUNetFolders, plan: Callable[..., str]
) -> None:
    before = file_of(phantoms, "nnUNetPlans").read_bytes()
    out = plan("-d", "901", "--architecture", "pctnet")
    assert file_of(phantoms, "nnUNetPlans").read_bytes() == before
    made = plans_of(phantoms)
    assert (made["plans_name"], made["experiment_planner_used"]) == ("nnUNetPCTNetPlans", "ExperimentPlanner")
    fullres = made["configurations"]["3d_fullres"]
    assert fullres["architecture"]["network_class_name"] == PCTNET
    assert fullres["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert "volf" not in fullres
    assert TARGET_KEY not in made
    patch = " x ".join(str(side) for side in fullres["patch_size"])
    lines = out.splitlines()
    assert lines[0] == f"{DATASET}, 3d_fullres, nnUNetPCTNetPlans: by ExperimentPlanner with PCT-Net"
    assert f"  network         PCT-Net, {fullres['architecture']['arch_kwargs']['n_stages']} stages, 24 to" in out
    assert f"{patch} mm; {fullres['batch_size']} of them a step" in out
    assert lines[-4:] == [
        "  preprocessed    all 6 cases, in nnUNetPlans_3d_fullres",
        "",
        "next: nnUNetv2_train 901 3d_fullres 0 -p nnUNetPCTNetPlans",
        "or first, on scans without labels: nnunet-volf pretrain FOLDER --for 901 -p nnUNetPCTNetPlans -c 3d_fullres",
    ]


@pytest.mark.parametrize("kept", [0, 4])
def test_where_preprocessed_cases_are_missing_the_command_that_makes_them_is_next(
    phantoms: NnUNetFolders, plan: Callable[..., str], kept: int
) -> None:
    for path in (phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres").glob("*.pkl"):
        if int(path.stem[-3:]) >= kept:
            path.unlink()
    out = plan("-d", "901", "--architecture", "fmunet")
    assert f"  preprocessed    {kept} of 6 cases, in nnUNetPlans_3d_fullres\n" in out
    assert (
        "next: nnUNetv2_preprocess -d 901 -plans_name nnUNetFMUNetPlans -c 3d_fullres\nthen: nnUNetv2_train 901" in out
    )


def test_a_planner_a_memory_and_a_name_are_taken_and_2d_is_planned_where_the_network_has_it(
    phantoms: NnUNetFolders, plan: Callable[..., str]
) -> None:
    plan("-d", "901", "--architecture", "fmunet", "-pl", "nnUNetPlannerResEncM", "-gpu_memory_target", "4", "-c", "2d")
    made = plans_of(phantoms, "nnUNetFMUNetMPlans")
    assert made["experiment_planner_used"] == "nnUNetPlannerResEncM"
    assert made["configurations"]["2d"]["architecture"]["network_class_name"] == "nnunet_volf.networks.FMUNet"
    plan("-d", "901", "--architecture", "pctnet", "--as", "Mine")
    assert plans_of(phantoms, "Mine")["plans_name"] == "Mine"


def test_other_voxels_than_other_plans_have_are_kept_apart(phantoms: NnUNetFolders, plan: Callable[..., str]) -> None:
    out = plan("-d", "901", "--architecture", "pctnet", "--spacing", "2", "1", "1", "--as", "Coarse")
    assert plans_of(phantoms, "Coarse")["configurations"]["3d_fullres"]["data_identifier"] == "Coarse_3d_fullres"
    assert "0 of 6 cases, in Coarse_3d_fullres" in out
    change_plans(lambda plans: plans["configurations"]["3d_fullres"].update(spacing=[1.5, 1, 1]))
    out = plan("-d", "901", "--architecture", "pctnet")
    found = {name: made["data_identifier"] for name, made in plans_of(phantoms)["configurations"].items()}
    assert found == {"2d": "nnUNetPlans_2d", "3d_fullres": "nnUNetPCTNetPlans_3d_fullres"}


def test_planning_again_keeps_settings_and_a_users_own_configurations(
    phantoms: NnUNetFolders, plan: Callable[..., str]
) -> None:
    plan("-d", "901", "--architecture", "pctnet", "--set", "epochs=7")

    def add(plans: dict[str, Any]) -> None:
        plans["configurations"]["mine"] = {"inherits_from": "3d_fullres", "batch_size": 5}
        plans["configurations"]["3d_fullres"]["volf_finetune"] = {"epochs": 9}

    change_plans(add, source="nnUNetPCTNetPlans", target="nnUNetPCTNetPlans")
    plan("-d", "901", "--architecture", "pctnet", "--set", "flip=0.1")
    made = plans_of(phantoms)["configurations"]
    assert made["3d_fullres"]["volf"] == {"epochs": 7, "flip": 0.1}
    assert made["3d_fullres"]["volf_finetune"] == {"epochs": 9}
    assert made["mine"] == {"inherits_from": "3d_fullres", "batch_size": 5}


def test_plans_that_were_trained_with_are_not_replaced_by_others(
    phantoms: NnUNetFolders, plan: Callable[..., str], refused: Callable[..., str]
) -> None:
    asked = ("-d", "901", "--architecture", "pctnet")
    plan(*asked)
    trained(phantoms, DATASET, "nnUNetPCTNetPlans")
    plan(*asked, "--set", "epochs=3")
    before = file_of(phantoms).read_bytes()
    error = refused("plan", *asked, "--spacing", "2", "1", "1")
    assert f"{DATASET} was trained with nnUNetPCTNetPlans (" in error
    assert "--as nnUNetPCTNetPlans2" in error
    assert file_of(phantoms).read_bytes() == before


def test_plans_of_another_network_are_not_written_over(phantoms: NnUNetFolders, refused: Callable[..., str]) -> None:
    before = file_of(phantoms, "nnUNetPlans").read_bytes()
    error = refused("plan", "-d", "901", "--architecture", "pctnet", "--as", "nnUNetPlans")
    assert (
        "nnUNetPlans.json exists, made by ExperimentPlanner with another network than ExperimentPlanner with" in error
    )
    assert file_of(phantoms, "nnUNetPlans").read_bytes() == before


def test_splits_that_come_with_the_raw_data_are_taken_along_as_nnunets_planner_does(
    phantoms: NnUNetFolders, plan: Callable[..., str]
) -> None:
    splits = json.dumps([{"train": ["case_000"], "val": ["case_001"]}])
    (phantoms.raw / DATASET / "splits_final.json").write_text(splits)
    plan("-d", "901", "--architecture", "pctnet")
    assert (phantoms.preprocessed / DATASET / "splits_final.json").read_text() == splits
    (phantoms.preprocessed / DATASET / "splits_final.json").write_text("[]")
    plan("-d", "901", "--architecture", "pctnet")
    assert (phantoms.preprocessed / DATASET / "splits_final.json").read_text() == "[]"


def test_without_a_fingerprint_the_command_that_takes_it_is_told(
    phantoms: NnUNetFolders, refused: Callable[..., str]
) -> None:
    shutil.rmtree(phantoms.preprocessed / DATASET)
    error = refused("plan", "-d", "901", "--architecture", "pctnet")
    assert f"{DATASET} has no fingerprint" in error
    assert "nnUNetv2_extract_fingerprint -d 901." in error
    assert list(phantoms.preprocessed.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "901"], "with another, nnunet-volf plan -d 901 --architecture pctnet. To pretrain on its"),
        (["-d", "901", "--architecture", "pctnet", "-c", "2d"], "-c 2d --architecture pctnet: PCT-Net is a network"),
        (["-d", "501", "--architecture", "pctnet", "-c", "2d"], "In 2D there is --architecture fmunet, or leave"),
        (["-d", "901", "--architecture", "fmunet", "-c", "4d"], "has no configuration '4d'. It has: 2d, 3d_fullres"),
        (["-d", "901", "--architecture", "pctnet", "--for", "901"], f"Leave --for out to plan {DATASET} itself."),
        (["-d", "901", "--architecture", "pctnet", "-pl", "None"], "nnU-Net has no planner 'None'"),
        (["-d", "901", "--architecture", "pctnet", "--set", "epoch=1"], "There is no setting 'epoch'"),
        (["-d", "501", "--for", "901", "--architecture", "pctnet", "-p", "nnUNetPlans"],
         f"3d_fullres of nnUNetPlans of {DATASET} has another network: PlainConvUNet, 3 stages, 4 to 8 features."),
        (["-d", "501", "--for", "901", "--architecture", "pctnet", "-p", "Mine"],
         "Mine.json does not exist. Leave -p out, which makes nnUNetPCTNetPlans where they are not there; or make "
         "these plans: nnunet-volf plan -d 901 --architecture pctnet --as Mine."),
    ],
)  # fmt: skip
def test_mistakes_are_answered_with_one_message_and_nothing_is_written(
    archive: NnUNetFolders, refused: Callable[..., str], arguments: list[str], message: str
) -> None:
    before = everything_in(archive.preprocessed)
    assert message in refused("plan", *arguments)
    assert everything_in(archive.preprocessed) == before


# --------------------------------------------------------------------------------------------------------- archives


def test_an_archive_is_planned_by_itself_with_the_network(archive: NnUNetFolders, plan: Callable[..., str]) -> None:
    out = plan("-d", "501", "--architecture", "fmunet", "--set", "epochs=2")
    assert f"{NAME}, 3d_fullres, VolFPlans: by ExperimentPlanner with FMUNet, from tissue in 3 of 3 cases" in out
    assert "  network         FMUNet, " in out
    made = plans_of(archive, "VolFPlans", NAME)
    assert made["configurations"]["3d_fullres"]["architecture"]["network_class_name"] == "nnunet_volf.networks.FMUNet"
    assert made[TARGET_KEY] is None
    plan("-d", "501", "--architecture", "fmunet")
    assert plans_of(archive, "VolFPlans", NAME)["configurations"]["3d_fullres"]["volf"] == {"epochs": 2}


def test_for_a_target_its_plans_with_the_network_are_made_once_and_carried_over(
    archive: NnUNetFolders, plan: Callable[..., str]
) -> None:
    asked = ("-d", "501", "--for", "901", "--architecture", "pctnet")
    out = plan(*asked)
    assert out.startswith(f"{DATASET} has no plans with PCT-Net: nnUNetPCTNetPlans made first\n")
    assert f"{NAME}, 3d_fullres, VolFPlans: like {DATASET}, nnUNetPCTNetPlans" in out
    target, made = plans_of(archive), plans_of(archive, "VolFPlans", NAME)
    assert made[TARGET_KEY] == {"dataset_name": DATASET, "plans_name": "nnUNetPCTNetPlans"}
    for name in ("architecture", "patch_size", "batch_size", "spacing"):
        assert made["configurations"]["3d_fullres"][name] == target["configurations"]["3d_fullres"][name]
    before = file_of(archive).stat().st_mtime_ns
    again = plan(*asked)
    assert "made first" not in again
    assert file_of(archive).stat().st_mtime_ns == before
    plan("-d", "501", "--for", "901", "-p", "nnUNetPCTNetPlans")
    plan(*asked, "-p", "nnUNetPCTNetPlans")


def test_an_archives_plans_that_were_trained_with_are_not_taken_for_those_of_another_network(
    archive: NnUNetFolders, plan: Callable[..., str], refused: Callable[..., str]
) -> None:
    plan("-d", "501", "--architecture", "fmunet")
    trained(archive, NAME, "VolFPlans", TRAINER)
    before = plans_of(archive, "VolFPlans", NAME)
    made = f"{NAME} was trained with VolFPlans, which was made by ExperimentPlanner with FMUNet. The plan asked for, "
    assert f"{made}by ExperimentPlanner, is another one" in refused("plan", "-d", "501")
    assert f"{made}by ExperimentPlanner with PCT-Net, is" in refused("plan", "-d", "501", "--architecture", "pctnet")
    asked = ("-d", "501", "--for", "901", "--architecture", "fmunet")
    assert f"{made}like {DATASET}, nnUNetFMUNetPlans, is another one" in refused("plan", *asked)
    out = plan("-d", "501", "--architecture", "fmunet")
    assert "by ExperimentPlanner with FMUNet, kept as it was when the training began" in out
    assert plans_of(archive, "VolFPlans", NAME)["configurations"] == before["configurations"] | {
        "3d_fullres": {**before["configurations"]["3d_fullres"], "volf": {}}
    }


# ---------------------------------------------------------------------------------------------------- context block


def test_a_labelled_dataset_gets_plans_with_a_context_block_beside_its_own_and_its_preprocessed_data_serves(
    phantoms: NnUNetFolders, plan: Callable[..., str]
) -> None:
    out = plan("-d", "901", "--context-block")
    assert f"{DATASET}, 3d_fullres, nnUNetContextPlans: by ExperimentPlanner with a context block" in out
    assert " features, and a context block\n" in out
    assert "preprocessed    all 6 cases, in nnUNetPlans_3d_fullres" in out
    assert "next: nnUNetv2_train 901 3d_fullres 0 -p nnUNetContextPlans\n" in out
    made = plans_of(phantoms, "nnUNetContextPlans")["configurations"]
    for name in ("2d", "3d_fullres"):
        arguments = made[name]["architecture"]["arch_kwargs"]
        assert made[name]["architecture"]["network_class_name"] == CONTEXT
        assert arguments["network"].endswith("PlainConvUNet")
        assert {len(dilation) for dilation in arguments["context_dilations"]} == {int(name[0])}
    plan("-d", "901", "--context-block", "--architecture", "pctnet")
    both = plans_of(phantoms, "nnUNetPCTNetContextPlans")["configurations"]
    assert both["3d_fullres"]["architecture"]["arch_kwargs"]["network"] == PCTNET
    assert both["2d"] == made["2d"], "PCT-Net has no 2D"


def test_residual_presets_take_a_context_block_and_keep_their_own_measure(
    phantoms: NnUNetFolders, plan: Callable[..., str]
) -> None:
    plan("-d", "901", "--context-block", "-pl", "nnUNetPlannerResEncM")
    made = plans_of(phantoms, "nnUNetResEncUNetMContextPlans")
    usual = Planner("nnUNetPlannerResEncM").plan(
        DATASET, json.loads((phantoms.preprocessed / DATASET / "dataset_fingerprint.json").read_text()), "x"
    )
    for name, configuration in usual["configurations"].items():
        found = made["configurations"][name]
        assert without_context(found["architecture"]) == configuration["architecture"]
        assert {key: found[key] for key in ("patch_size", "batch_size", "data_identifier")} == {
            key: configuration[key] for key in ("patch_size", "batch_size", "data_identifier")
        }


def test_an_archive_is_planned_by_itself_with_a_context_block(
    archive: NnUNetFolders, plan: Callable[..., str], refused: Callable[..., str]
) -> None:
    out = plan("-d", "501", "--context-block")
    assert f"{NAME}, 3d_fullres, VolFPlans: by ExperimentPlanner with a context block, from tissue in 3 of" in out
    made = plans_of(archive, "VolFPlans", NAME)
    after = commands_after_pretraining(made, "3d_fullres", Path("final.pth"))
    assert after[0] == "nnunet-volf plan -d DATASET --context-block"
    assert all("-p nnUNetContextPlans" in command for command in after[1:])
    trained(archive, NAME, "VolFPlans", TRAINER)
    assert "which was made by ExperimentPlanner with a context block. The plan asked for, by ExperimentPlanner, is" in (
        refused("plan", "-d", "501")
    )
    assert "kept as it was when the training began" in plan("-d", "501", "--context-block")


def test_for_a_target_its_plans_with_a_context_block_are_made_once_and_carried_over(
    archive: NnUNetFolders, plan: Callable[..., str], refused: Callable[..., str]
) -> None:
    asked = ("-d", "501", "--for", "901", "--context-block")
    out = plan(*asked)
    assert out.startswith(f"{DATASET} has no plans with a context block: nnUNetContextPlans made first\n")
    target, made = plans_of(archive, "nnUNetContextPlans"), plans_of(archive, "VolFPlans", NAME)
    architecture = made["configurations"]["3d_fullres"]["architecture"]
    assert architecture == target["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"] == CONTEXT
    assert "made first" not in plan(*asked)
    plan("-d", "501", "--for", "901", "-p", "nnUNetContextPlans")
    assert plans_of(archive, "VolFPlans", NAME)["configurations"]["3d_fullres"]["architecture"] == architecture
    plan("-d", "501", "--for", "901", "-p", "nnUNetContextPlans", "--context-block")
    assert (
        f"--context-block was asked for, and 3d_fullres of nnUNetPlans of {DATASET} has none: PlainConvUNet, 3 stages, "
        "4 to 8 features. Leave -p out"
    ) in refused("plan", *asked, "-p", "nnUNetPlans")
    assert "or make these plans: nnunet-volf plan -d 901 --context-block --as Mine." in (
        refused("plan", *asked, "-p", "Mine")
    )
    assert "made by ExperimentPlanner with another network than ExperimentPlanner with a context block" in (
        refused("plan", "-d", "901", "--context-block", "--as", "nnUNetPlans")
    )


# ------------------------------------------------------------------------------------------------ real nnU-Net, slow


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("network", ["pctnet"])  # FMUNet goes the same way in test_pretrain_networks
def test_stock_nnunet_preprocesses_and_trains_by_the_printed_commands(
    phantoms: NnUNetFolders, tmp_path: Path, plan: Callable[..., str], network: str
) -> None:
    shutil.rmtree(phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres")
    out = plan("-d", "901", "--architecture", network)
    lines = dict(line.split(": ", 1) for line in out.splitlines() if line.startswith(("next: ", "then: ")))
    done = run_nnunet(*shlex.split(lines["next"]), "-np", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    train = (*shlex.split(lines["then"]), "-tr", "nnUNetTrainerIdle", "-device", "cpu")
    done = run_nnunet(*train, nnUNet_extTrainer=with_idle_trainer(tmp_path / "users"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = phantoms.results / DATASET / f"nnUNetTrainerIdle__{train[5]}__3d_fullres" / "fold_0"
    assert (results / "validation" / "summary.json").is_file()
