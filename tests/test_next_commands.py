"""The commands that are printed for a user to go on with."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from nnunet_volf.next_commands import (
    FINE_TUNER,
    adapt_command,
    benchmark_command,
    commands_after_pretraining,
    fine_tune_command,
    pretrain_command,
)
from nnunet_volf.plans import TARGET_KEY

FINAL = Path("results/fold_all/checkpoint_final.pth")


def test_weights_of_a_carried_over_plan_go_to_the_dataset_it_is_for_under_its_own_plans() -> None:
    target = {"dataset_name": "Dataset004_Hippocampus", "plans_name": "nnUNetResEncUNetLPlans"}
    plans = {"dataset_name": "Dataset501_Archive", "plans_name": "VolFPlans", TARGET_KEY: target}
    assert commands_after_pretraining(plans, "3d_fullres", FINAL) == [
        "nnUNetv2_train 4 3d_fullres 0 -p nnUNetResEncUNetLPlans -tr nnUNetTrainerVolFFineTune "
        f"-pretrained_weights {FINAL}"
    ]


def test_weights_of_a_labelled_dataset_go_to_itself() -> None:
    plans = {"dataset_name": "Dataset004_Hippocampus", "plans_name": "VolFPlans"}
    assert commands_after_pretraining(plans, "2d", FINAL) == [
        f"nnUNetv2_train 4 2d 0 -p VolFPlans -tr nnUNetTrainerVolFFineTune -pretrained_weights {FINAL}"
    ]


def test_weights_of_an_archives_own_plan_are_fitted_to_any_dataset_first() -> None:
    plans = {"dataset_name": "Dataset501_Archive", "plans_name": "VolFPlans", TARGET_KEY: None}
    assert commands_after_pretraining(plans, "3d_fullres", FINAL) == [
        f"nnunet-volf weights adapt {FINAL} -d DATASET -p nnUNetPlans -c 3d_fullres -o FILE",
        "nnUNetv2_train DATASET 3d_fullres 0 -p nnUNetPlans -tr nnUNetTrainerVolFFineTune -pretrained_weights FILE",
    ]


def test_the_question_whether_it_helps_is_asked_of_the_dataset_that_the_weights_are_for() -> None:
    target = {"dataset_name": "Dataset004_Hippocampus", "plans_name": "nnUNetResEncUNetLPlans"}
    plans = {"dataset_name": "Dataset501_Archive", "plans_name": "VolFPlans", TARGET_KEY: target}
    asked = f"nnunet-volf benchmark 4 -p nnUNetResEncUNetLPlans -c 2d --pretrained {FINAL}"
    assert benchmark_command(plans, "2d", FINAL) == asked
    assert benchmark_command({**plans, TARGET_KEY: None}, "2d", FINAL) is None


def test_paths_with_blanks_can_be_pasted_into_a_shell() -> None:
    path = Path("my results") / "it's" / "final.pth"
    assert shlex.split(fine_tune_command(4, "P", "2d", path))[-1] == str(path)
    words = shlex.split(adapt_command(path, 4, "P", "2d", path.with_name("a b.pth")))
    assert words[3] == str(path)
    assert words[-1] == str(path.with_name("a b.pth"))


def test_rules_are_named_only_where_they_are_not_the_usual_ones() -> None:
    plain = adapt_command("in.pth", 4, "P", "2d", "out.pth")
    assert plain == "nnunet-volf weights adapt in.pth -d 4 -p P -c 2d -o out.pth"
    chosen = adapt_command("in.pth", 4, "P", "2d", "out.pth", scope="encoder", channels="repeat")
    assert chosen == plain.replace(" -o", " --scope encoder --channels repeat -o")


def test_pretraining_for_a_task_names_its_plans_and_configuration() -> None:
    assert pretrain_command(4, "P", "2d") == "nnunet-volf pretrain FOLDER --for 4 -p P -c 2d"
    assert pretrain_command(4, "P", "2d", "volf") == "nnunet-volf pretrain FOLDER --for 4 -p P -c 2d"
    assert pretrain_command(4, "P", "2d", "mae") == "nnunet-volf pretrain FOLDER --for 4 -p P -c 2d --pretext mae"


def test_the_trainer_that_is_named_exists() -> None:
    assert (Path(__file__).parent.parent / "trainers" / f"{FINE_TUNER}.py").is_file()


def test_commands_are_made_without_loading_torch() -> None:
    code = "import sys, nnunet_volf.next_commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
