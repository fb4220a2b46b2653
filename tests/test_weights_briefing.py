"""What a user is told before weights are used: what they are, how the task differs, whether they fit, what to do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from weight_files import task_of, weights_from

from nnunet_volf.weights.briefing import brief, next_command, verdict
from nnunet_volf.weights.differences import differences
from nnunet_volf.weights.pretrained import Preparation, Pretrained
from nnunet_volf.weights.table import module_of, module_table, tensor_table
from nnunet_volf.weights.target import Task

MR = Preparation(("MRI",), ("ZScoreNormalization",), (1.0, 1.0, 1.0), (40, 56, 40))
CT = Preparation(("CT",), ("CTNormalization",), (1.5, 0.8, 0.8), (96, 160, 160), ({"mean": 100.0, "std": 50.0},))


def change(preparation: Preparation, **changes: object) -> Preparation:
    return dataclasses.replace(preparation, **changes)


def test_images_prepared_alike_differ_in_nothing() -> None:
    assert differences(MR, MR) == []
    assert differences(CT, change(CT, patch=(64, 64, 64))) == []


def test_a_spacing_within_what_augmentation_covers_is_not_worth_a_word() -> None:
    assert differences(MR, change(MR, spacing=(1.0, 0.75, 1.4))) == []


def test_another_spacing_is_told_with_how_large_structures_become() -> None:
    assert differences(MR, change(MR, spacing=(3.0, 0.5, 1.0))) == [
        "pretrained at 1 x 1 x 1 mm, the task is at 3 x 0.5 x 1 mm: structures appear 0.33 x 2 x 1 times as large, "
        "in voxels"
    ]


def test_another_dimension_is_told() -> None:
    assert differences(MR, change(MR, spacing=(1.0, 1.0))) == ["pretrained in 3D, the task is 2D"]


def test_another_normalisation_is_told_by_channel() -> None:
    assert differences(change(CT, channels=("MRI",)), MR)[0] == (
        "MRI was normalised by CTNormalization, the task's MRI by ZScoreNormalization"
    )


def test_other_channels_are_told() -> None:
    two = change(MR, channels=("T1", "T2"), normalization=("ZScoreNormalization",) * 2)
    assert differences(MR, two) == ["pretrained on MRI, the task has T1, T2"]
    odd = change(two, normalization=("CTNormalization", "ZScoreNormalization"))
    assert differences(MR, odd)[1] == (
        "intensities were normalised by ZScoreNormalization, the task's by CTNormalization, ZScoreNormalization"
    )


def test_ct_numbers_of_another_dataset_are_told_with_what_they_do() -> None:
    narrow = change(CT, intensities=({"mean": 50.0, "std": 25.0},))
    assert differences(CT, narrow) == [
        "CT was normalised with mean 100 and std 50, the task's with 50 and 25: what the network knew as 0 and 1 is "
        "now 2.00 and 4.00"
    ]
    assert differences(CT, change(CT, intensities=({"mean": 105.0, "std": 55.0},))) == []
    assert differences(CT, change(CT, intensities=())) == []


def test_the_lines_say_what_the_weights_are() -> None:
    task = task_of()
    known = dataclasses.replace(
        weights_from(task),
        kind="nnunet-volf",
        method="volume fusion",
        trainer="nnUNetTrainerVolF",
        dataset="Dataset501_Archive",
        configuration="3d_fullres",
        epochs=60,
        data={"cases": 80},
    )
    assert brief(known, task).lines == (
        "weights.pth: nnunet-volf, volume fusion, nnUNetTrainerVolF",
        "trained on Dataset501_Archive, 80 cases, 3d_fullres, 60 epochs",
        "prepared as MRI; ZScoreNormalization; 1 x 1 x 1 mm; patch 16 x 16 x 16",
    )


def test_nothing_is_claimed_about_a_file_that_says_nothing() -> None:
    task = task_of()
    silent = Pretrained(Path("w.pth"), "state dict", "plain", weights_from(task).tensors)
    briefing = brief(silent, task)
    assert briefing.lines == ("w.pth: state dict",)
    assert briefing.warnings == (
        "the file does not say how its images were prepared: compare spacing and normalisation yourself",
    )


def test_what_a_file_says_of_itself_cannot_play_tricks_on_a_terminal() -> None:
    task = task_of()
    strange = dataclasses.replace(weights_from(task), trainer="a\x1b[2Jb", notes=("c\rd",))
    assert brief(strange, task).lines[0] == "weights.pth: nnU-Net, a?[2Jb"
    assert brief(strange, task).lines[-1] == "c?d"


def test_a_file_that_fits_leads_to_fine_tuning() -> None:
    task = task_of()
    briefing = brief(weights_from(task, path="my weights.pth"), task)
    assert (briefing.code, briefing.fits, briefing.share, briefing.problem) == (0, True, 1, "")
    assert verdict(briefing, task).startswith("fits: nnU-Net takes all of Dataset007_Liver's network but the heads")
    assert next_command(briefing, Path("my weights.pth"), task) == (
        "nnUNetv2_train 7 3d_fullres 0 -p nnUNetPlans -tr nnUNetTrainerVolFFineTune "
        "-pretrained_weights 'my weights.pth'"
    )


def test_a_file_without_all_of_nnunets_names_fits_only_after_adapting() -> None:
    task = task_of()
    bare = dataclasses.replace(weights_from(task), stored={})
    briefing = brief(bare, task)
    assert (briefing.code, briefing.share) == (3, 1)
    assert "is not in the file" in briefing.problem
    assert "more like this" in briefing.problem


def test_a_file_for_other_channels_leads_to_adapting() -> None:
    task = task_of(channels=("T1", "T2"))
    briefing = brief(weights_from(task_of()), task, channels="repeat")
    assert (briefing.code, briefing.fits) == (3, False)
    command = (
        "nnunet-volf weights adapt weights.pth -d 7 -p nnUNetPlans -c 3d_fullres --channels repeat "
        "-o weights-for-Dataset007-nnUNetPlans-3d_fullres.pth"
    )
    assert next_command(briefing, Path("weights.pth"), task) == command
    assert briefing.problem == (
        "weights.pth does not fit Dataset007_Liver, nnUNetPlans, 3d_fullres as it is: "
        "encoder.stages.0.0.convs.0.conv.weight is 4 x 1 x 3 x 3 x 3 in the file and 4 x 2 x 3 x 3 x 3 in the network "
        f"(and 3 more like this). Adapted, 100.0% of the network is taken over: {command}"
    )
    assert verdict(briefing, task) == "fits after adapting: 100.0% of the network is taken over"


def test_channels_in_another_order_are_refused_although_nnunet_would_take_them() -> None:
    task = task_of(channels=("T2", "T1"))
    briefing = brief(weights_from(task_of(channels=("T1", "T2"))), task)
    assert briefing.code == 3
    assert "encoder.stages.0.0.convs.0.conv.weight: T1 sees T1; T2 sees T2." in briefing.problem


def test_the_encoder_alone_is_a_matter_of_adapting() -> None:
    task = task_of()
    briefing = brief(weights_from(task), task, scope="encoder")
    assert briefing.code == 3
    assert " --scope encoder " in next_command(briefing, Path("w.pth"), task)


def test_little_that_fits_is_called_little() -> None:
    task = task_of(features=(4, 60, 80))
    briefing = brief(weights_from(task_of()), task)
    assert briefing.code == 3
    assert verdict(briefing, task).endswith("which is little: most of it would still start from nothing")


def test_a_file_of_which_nothing_fits_leads_to_pretraining() -> None:
    task = task_of(features=(16, 18, 20))
    strange = dataclasses.replace(weights_from(task_of()), stored={})
    tensors = {name: tensor for name, tensor in strange.tensors.items() if "seg_layers" in name}
    briefing = brief(dataclasses.replace(strange, tensors=tensors), task)
    assert (briefing.code, briefing.share) == (4, 0)
    assert verdict(briefing, task) == "does not fit: nothing of this file can be taken over"
    assert next_command(briefing, Path("w.pth"), task) == (
        "nnunet-volf pretrain FOLDER --for 7 -p nnUNetPlans -c 3d_fullres"
    )


def test_strides_that_differ_are_told() -> None:
    flat: Task = task_of(strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    assert (
        "the file's network strides by 2x2x2, 2x2x2, the task's by 1x2x2, 2x2x2"
        in brief(weights_from(task_of()), flat).warnings
    )


@pytest.mark.parametrize(
    ("tensor", "module"),
    [
        ("encoder.stages.2.0.convs.1.norm.bias", "encoder.stages.2"),
        ("encoder.stages.2.blocks.0.conv1.conv.weight", "encoder.stages.2"),
        ("encoder.stem.convs.0.conv.weight", "encoder.stem"),
        ("decoder.transpconvs.0.weight", "decoder.transpconvs.0"),
        ("decoder.seg_layers.3.bias", "heads"),
        ("something.else.weight", "something"),
    ],
)
def test_tensors_belong_to_modules(tensor: str, module: str) -> None:
    assert module_of(tensor) == module


def test_the_module_table_has_a_line_a_module_and_a_sum() -> None:
    task = task_of(channels=("T1", "T2"), features=(4, 6, 10))
    lines = module_table(brief(weights_from(task_of()), task).match).splitlines()
    assert lines[0].split() == ["module", "parameters", "carried", "adapted", "skipped", "missing"]
    by_module = {line.split()[0]: line for line in lines}
    # 2 x 4 x 27 filters of 228 values: the first layer is adapted, its bias and norm are carried
    line = " ".join(by_module["encoder.stages.0"].split()[1:])
    assert line == "228 5.3 % 94.7 % - - MRI sees the mean of T1, T2"
    assert "features 8 x 6 in the file, 10 x 6 in the network" in by_module["encoder.stages.2"]
    assert by_module["heads"].endswith("new: they belong to the task")
    assert lines[-1].startswith("all but heads")


def test_the_tensor_table_has_a_line_a_tensor_and_those_that_are_left() -> None:
    briefing = brief(weights_from(task_of(features=(4, 6, 8, 8))), task_of())
    lines = tensor_table(briefing.match).splitlines()
    assert len(lines) == 1 + len(briefing.match.rows) + len(briefing.match.left)
    assert any(line.split()[:2] == ["encoder.stages.3.0.convs.0.conv.weight", "left"] for line in lines)
