"""How a segmentation is scored: nnU-Net's Dice and surfaces, for labels, regions, 2D images and what is missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_volf.benchmark.results import Score
from nnunet_volf.benchmark.scores import class_names, score_case


def write(path: Path, voxels: np.ndarray, spacing: tuple[float, ...] = (1.0, 2.0, 3.0)) -> Path:
    image = SimpleITK.GetImageFromArray(voxels.astype(np.uint8))
    image.SetSpacing(spacing[: voxels.ndim])
    SimpleITK.WriteImage(image, str(path))
    return path


def two_boxes() -> tuple[np.ndarray, np.ndarray]:
    truth, found = np.zeros((12, 10, 8), int), np.zeros((12, 10, 8), int)
    truth[2:6, 2:6, 2:6], found[2:6, 2:6, 3:7] = 1, 1
    truth[8:10, 2:6, 2:6], found[8:10, 2:6, 2:6] = 2, 2
    return truth, found


def scored(tmp_path: Path, truth: np.ndarray, found: np.ndarray, classes: dict[str, str], **more: Any) -> list[Score]:
    files = write(tmp_path / "t.nii.gz", truth), write(tmp_path / "p.nii.gz", found)
    return list(score_case("case", *files, classes, SimpleITKIO(), more.get("ignore"), more.get("tolerance", 1.0)))


def test_each_class_has_its_dice_and_distances_in_mm(tmp_path: Path) -> None:
    first, second = scored(tmp_path, *two_boxes(), {"1": "liver", "2": "spleen"})
    assert (first.case, first.label) == ("case", "liver")
    assert first.dice == pytest.approx(2 * 48 / 128)
    assert first.hd95 == 1.0  # one voxel along x, the last axis in the file's array, which is 1 mm
    assert second == Score("case", "spleen", 1.0, 1.0, 0.0, 0.0)


def test_a_missed_class_has_the_worst_scores_and_one_that_nobody_has_none(tmp_path: Path) -> None:
    truth, found = two_boxes()
    found[found == 2] = 0
    _, missed, absent = scored(tmp_path, truth, found, {"1": "a", "2": "b", "3": "c"})
    diagonal = math.sqrt((12 * 3) ** 2 + (10 * 2) ** 2 + (8 * 1) ** 2)
    assert (missed.dice, missed.nsd) == (0, 0)
    assert (missed.hd95, missed.assd) == pytest.approx((diagonal, diagonal))
    assert absent == Score("case", "c", None, None, None, None)


def test_regions_are_scored_as_one(tmp_path: Path) -> None:
    truth, found = two_boxes()
    (whole,) = scored(tmp_path, truth, np.where(found > 0, 3 - found, 0), {"(1, 2)": "both"})
    intersection, total = 48 + 32, 64 + 32 + 64 + 32
    assert whole.dice == pytest.approx(2 * intersection / total)


def test_voxels_to_ignore_count_for_nothing(tmp_path: Path) -> None:
    truth, found = two_boxes()
    truth[:, :, 6:] = 9
    found[11, 9, 7] = 1
    (score,) = scored(tmp_path, truth, found, {"1": "a"}, ignore=9)
    assert score.dice == pytest.approx(2 * 48 / (64 + 48))
    assert score.hd95 is not None
    assert score.hd95 <= 1.0


def test_a_2d_image_has_no_surface_across_its_only_slice(tmp_path: Path) -> None:
    truth, found = np.zeros((1, 20, 20), int), np.zeros((1, 20, 20), int)
    truth[0, 4:14, 4:14], found[0, 4:14, 6:14] = 1, 1
    (score,) = scored(tmp_path, truth, found, {"1": "a"}, tolerance=1.5)
    assert score.nsd is not None
    assert score.nsd < 1  # the moved edge is 2 mm away; with inner voxels as surface nearly all would be within
    assert score.hd95 == 2.0


def test_classes_have_the_names_of_the_dataset_and_the_keys_of_nnunet() -> None:
    labels = {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}
    assert class_names(LabelManager(labels, None), {"labels": labels}) == {"1": "liver", "2": "tumour"}
    regions = {"background": 0, "whole": [1, 2], "core": [2]}
    names = class_names(LabelManager(regions, [1, 2]), {"labels": regions})
    assert names == {"(1, 2)": "whole", "(2,)": "core"}
