"""The summary of a pretraining, and the commands that use its weights."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import numpy as np

from nnunet_volf.plans import TARGET_KEY
from nnunet_volf.scoring import FusionScores
from nnunet_volf.settings import VolFSettings
from nnunet_volf.summary import fine_tune_commands, summarize

FINAL = Path("results/fold_all/checkpoint_final.pth")


def test_weights_of_a_carried_over_plan_go_to_the_dataset_it_is_for_under_its_own_plans() -> None:
    target = {"dataset_name": "Dataset004_Hippocampus", "plans_name": "nnUNetResEncUNetLPlans"}
    plans = {"dataset_name": "Dataset501_Archive", "plans_name": "VolFPlans", TARGET_KEY: target}
    assert fine_tune_commands(plans, "3d_fullres", FINAL) == [
        f"nnUNetv2_train 4 3d_fullres 0 -p nnUNetResEncUNetLPlans -pretrained_weights {FINAL}"
    ]


def test_weights_of_a_labelled_dataset_go_to_itself() -> None:
    plans = {"dataset_name": "Dataset004_Hippocampus", "plans_name": "VolFPlans"}
    assert fine_tune_commands(plans, "2d", FINAL) == [f"nnUNetv2_train 4 2d 0 -p VolFPlans -pretrained_weights {FINAL}"]


def test_weights_of_an_archives_own_plan_go_to_any_dataset_which_takes_the_plan_over_first() -> None:
    plans = {"dataset_name": "Dataset501_Archive", "plans_name": "VolFPlans", TARGET_KEY: None}
    assert fine_tune_commands(plans, "3d_fullres", FINAL) == [
        "nnUNetv2_move_plans_between_datasets -s 501 -t DATASET -sp VolFPlans -tp VolFPlans",
        "nnUNetv2_preprocess -d DATASET -plans_name VolFPlans -c 3d_fullres",
        f"nnUNetv2_train DATASET 3d_fullres 0 -p VolFPlans -pretrained_weights {FINAL}",
    ]


def test_a_path_with_blanks_can_be_pasted_into_a_shell() -> None:
    plans = {"dataset_name": "Dataset004_T", "plans_name": "P"}
    (command,) = fine_tune_commands(plans, "2d", Path("my results") / "it's" / "final.pth")
    assert shlex.split(command)[-1] == str(Path("my results") / "it's" / "final.pth")


def test_a_summary_is_json_that_anyone_can_read() -> None:
    scores = FusionScores((0.5, math.nan, 0.25), 0.125, (math.nan, 0.75, math.nan), 0.2)
    settings = VolFSettings.from_mapping({"epochs": 3})
    summary = summarize(scores, np.array([[1, 2], [3, 4]]), 0.75, settings, dataset="Dataset501_Archive", epochs=3)
    assert list(summary)[:2] == ["dataset", "epochs"], "what it is about comes first"
    text = json.dumps(summary, allow_nan=False)
    read = json.loads(text)
    assert read["loss"] == 0.75
    assert read["mean_fused_dice"] == 0.25
    assert read["mean_fused_dice_by_chance"] == 0.2
    assert read["dice_per_class"] == [0.5, None, 0.25]
    assert read["ordinal_error"] == 0.125
    assert read["k_taken_for_K_minus_k"] == [None, 0.75, None]
    assert read["confusion_true_by_predicted"] == [[1, 2], [3, 4]]
    assert VolFSettings.from_mapping(read["settings"]) == settings
    assert read["versions"].keys() == {"python", "nnunet-volf", "nnunetv2", "torch"}
