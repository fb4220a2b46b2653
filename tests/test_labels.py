"""The label description of a pretraining, as nnU-Net reads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_volf.labels import relabelled
from nnunet_volf.pretext.volf.labels import fusion_labels

WITH_REGIONS: dict[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
    "regions_class_order": [1, 2],
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def manager(description: dict[str, Any]) -> LabelManager:
    return LabelManager(description["labels"], description.get("regions_class_order"))


@pytest.mark.parametrize("k", [2, 4, 16])
def test_there_is_a_label_for_each_coefficient(k: int) -> None:
    assert list(fusion_labels(k).values()) == list(range(k + 1))
    assert len(fusion_labels(k)) == k + 1


def test_labels_are_named_after_their_coefficient() -> None:
    assert list(fusion_labels(3)) == ["background", "fused_1_of_3", "fused_2_of_3", "fused_3_of_3"]


@pytest.mark.parametrize("k", [2, 4, 16])
def test_nnunet_builds_a_head_for_each_class(k: int) -> None:
    assert manager(relabelled(WITH_REGIONS, fusion_labels(k))).num_segmentation_heads == k + 1


def test_regions_and_the_ignore_label_are_gone() -> None:
    assert manager(WITH_REGIONS).has_regions
    labels = manager(relabelled(WITH_REGIONS, fusion_labels(4)))
    assert not labels.has_regions
    assert not labels.has_ignore_label
    assert labels.foreground_labels == [1, 2, 3, 4]


def test_all_else_in_the_description_is_kept() -> None:
    described = relabelled(WITH_REGIONS, fusion_labels(4))
    assert {k: v for k, v in described.items() if k != "labels"} == {
        k: v for k, v in WITH_REGIONS.items() if k not in ("labels", "regions_class_order")
    }


def test_the_description_that_is_given_is_left_as_it_is() -> None:
    given = copy.deepcopy(WITH_REGIONS)
    relabelled(given, fusion_labels(4))["labels"]["more"] = 9
    assert given == WITH_REGIONS


def test_a_description_without_labels_gets_them() -> None:
    assert manager(relabelled({"channel_names": {"0": "CT"}}, fusion_labels(4))).num_segmentation_heads == 5
