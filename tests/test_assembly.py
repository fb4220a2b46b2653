"""From images to cases: pure, and the same in whatever order the images were found."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.preprocessing.assembly import (
    Case,
    Image,
    Subject,
    different_grids,
    group,
    leave_out,
    name_cases,
    on_one_grid,
)
from nnunet_volf.preprocessing.refusals import Quarantined

CHANNELS = ("T1", "T2")
AXES = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def image(name: str, subject: str = "", channel: int = 0, content: str = "", **more: Any) -> Image:
    facts = {"content": content or name.ljust(32, "0"), "shape": [8, 9, 10], "spacing": [2.0, 1.0, 1.0]}
    return {
        "name": name,
        "subject": subject or name,
        "channel": channel,
        "facts": {**facts, **{key: more[key] for key in facts if key in more}},
        "grid": [*more.get("origin", (0.0, 0.0, 0.0)), *more.get("direction", AXES)],
    }


def subject(*images: Image) -> Subject:
    return Subject(images[0]["name"], images)


IMAGES = st.lists(
    st.builds(
        image,
        name=st.integers(0, 10**6).map(lambda number: f"{number}.nii"),
        subject=st.sampled_from("abc"),
        channel=st.integers(0, 1),
        content=st.sampled_from("xyz").map(lambda letter: letter * 32),
    ),
    max_size=8,
    unique_by=lambda one: one["name"],
)


# -------------------------------------------------------------------------------------------------- subjects


def test_a_subject_has_its_images_in_the_order_of_the_channels_and_the_name_of_the_first() -> None:
    t2, t1 = image("a.nii", "s", 1), image("b.nii", "s", 0)
    assert group([t2, t1], CHANNELS) == ([Subject("b.nii", (t1, t2))], [])


def test_a_second_image_of_a_channel_is_ambiguous_and_the_first_by_name_is_taken() -> None:
    first, second = image("a.nii", "s"), image("b.nii", "s")
    subjects, (line,) = group([second, first], ["T1"])
    assert subjects == [Subject("a.nii", (first,))]
    assert (line.item, line.stage, line.kind) == ("b.nii", "compare", "ambiguous")
    assert "channel T1" in line.reason
    assert "--channels" in line.advice


def test_a_second_image_with_the_same_voxels_is_a_duplicate() -> None:
    subjects, (line,) = group([image("b.nii", "s", content="x"), image("a.nii", "s", content="x")], ["T1"])
    assert [one.name for one in subjects] == ["a.nii"]
    assert (line.item, line.kind) == ("b.nii", "duplicate")


def test_a_subject_without_a_channel_is_left_out_and_says_which() -> None:
    whole = [image("a1.nii", "a", 0), image("a2.nii", "a", 1)]
    subjects, (line,) = group([*whole, image("b2.nii", "b", 1)], CHANNELS)
    assert [one.name for one in subjects] == ["a1.nii"]
    assert (line.item, line.kind, line.reason) == ("b2.nii", "incomplete", "Its subject has T2 but no T1.")


@given(IMAGES, st.randoms())
def test_the_order_of_the_images_changes_nothing(images: list[Image], random: Any) -> None:
    shuffled = random.sample(images, len(images))
    assert assembled(images) == assembled(shuffled)


@given(IMAGES)
def test_no_image_is_lost_and_none_is_used_twice(images: list[Image]) -> None:
    subjects, quarantined = group(images, CHANNELS)
    used = Counter(one["name"] for each in subjects for one in each.images)
    refused = Counter(line.item for line in quarantined)
    assert not used & refused
    assert max([*used.values(), *refused.values()], default=1) == 1
    incomplete = {line.item for line in quarantined if line.kind == "incomplete"}
    beside = [one for one in images if one["name"] not in used and one["name"] not in refused]
    assert not beside or incomplete  # a channel beside the one that an incomplete subject is named after
    for each in subjects:
        assert [one["channel"] for one in each.images] == [0, 1]
        assert len({one["subject"] for one in each.images}) == 1


def assembled(images: list[Image]) -> tuple[list[Case], list[tuple[str, ...]]]:
    subjects, first = group(images, CHANNELS)
    subjects, second = leave_out(subjects, {"z" * 32: "in dataset 4"})
    cases, third = name_cases(subjects)
    return cases, sorted((q.item, q.stage, q.kind, q.reason) for q in [*first, *second, *third])


# ----------------------------------------------------------------------------------------- protected datasets


def test_a_subject_is_left_out_when_any_of_its_images_is_known() -> None:
    known = subject(image("a.nii", content="new"), image("b.nii", content="old"))
    other = subject(image("c.nii", content="also new"))
    kept, (line,) = leave_out([known, other], {"old": "in imagesTs of dataset 4"})
    assert kept == [other]
    assert (line.item, line.stage, line.kind) == ("a.nii", "compare", "known")
    assert line.reason == "The same voxels are in imagesTs of dataset 4."
    assert "--keep-known" in line.advice


# ----------------------------------------------------------------------------------------------------- names


def test_a_case_is_named_after_its_voxels_and_nothing_else() -> None:
    here = image("Doe_Jane_1961.nii.gz", content="0123456789abcdef" * 2)
    there = image("elsewhere/x.nrrd", content="0123456789abcdef" * 2)
    ((first,), _), ((second,), _) = name_cases([subject(here)]), name_cases([subject(there)])
    assert first.name == second.name == "case_0123456789ab"
    assert first.content == "0123456789abcdef" * 2


def test_a_case_of_several_channels_is_named_after_all_of_them_in_order() -> None:
    a, b = image("a.nii", content="a" * 32), image("b.nii", content="b" * 32)
    cases, _ = name_cases([subject(a, b), subject(b, a), subject(a, a)])
    assert len({case.name for case in cases}) == 3
    assert all(len(case.content) == 32 for case in cases)


def test_what_occurs_twice_is_taken_once_and_the_other_points_to_it() -> None:
    first, second = subject(image("a.nii", content="c" * 32)), subject(image("b.nii", content="c" * 32))
    cases, (line,) = name_cases([first, second])
    assert [case.images[0]["name"] for case in cases] == ["a.nii"]
    assert (line.item, line.kind) == ("b.nii", "duplicate")
    assert "case_cccccccccccc" in line.reason


def test_two_contents_with_the_same_first_digits_are_two_cases() -> None:
    contents = [f"{'c' * 12}{letter * 20}" for letter in "abca"]
    cases, lines = name_cases([subject(image(f"{n}.nii", content=content)) for n, content in enumerate(contents)])
    assert {case.content for case in cases} == set(contents)
    assert len({case.name for case in cases}) == 3
    assert [line.item for line in lines] == ["3.nii"]


def test_a_second_copy_of_a_collision_is_a_duplicate_too() -> None:
    contents = [f"{'c' * 12}{letter * 20}" for letter in "abb"]
    cases, lines = name_cases([subject(image(f"{n}.nii", content=content)) for n, content in enumerate(contents)])
    assert len(cases) == 2
    assert [line.item for line in lines] == ["2.nii"]


# ----------------------------------------------------------------------------------------------------- grids


def pair(**second: Any) -> bool:
    first = image("a.nii", spacing=[2.0, 1.0, 0.5], origin=(100.0, 0.0, -300.0))
    return on_one_grid(
        [first, image("b.nii", **{"spacing": [2.0, 1.0, 0.5], "origin": (100.0, 0.0, -300.0), **second})]
    )


def turned(degrees: float) -> list[float]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("second", "same"),
    [
        ({}, True),
        ({"shape": [8, 9, 11]}, False),
        ({"shape": [9, 8, 10]}, False),
        ({"spacing": [2.0, 1.0009, 0.5]}, True),
        ({"spacing": [2.0, 1.0011, 0.5]}, False),
        ({"spacing": [2.0019, 1.0, 0.5]}, True),
        ({"spacing": [2.0021, 1.0, 0.5]}, False),
        # A tenth of the smallest side, 0.05 mm, and a hair for the rounding of large coordinates.
        ({"origin": (100.049, 0.0, -300.0)}, True),
        ({"origin": (100.052, 0.0, -300.0)}, False),
        ({"origin": (100.0, 0.0, -300.054)}, False),
        ({"direction": turned(0.05)}, True),
        ({"direction": turned(0.07)}, False),
        ({"direction": [-1.0, *AXES[1:]]}, False),
    ],
)
def test_grids_are_one_within_rounding_only(second: dict[str, Any], same: bool) -> None:
    assert pair(**second) is same


def test_every_channel_is_compared_with_the_first() -> None:
    a, b = image("a.nii"), image("b.nii", origin=(5.0, 0.0, 0.0))
    assert on_one_grid([a])
    assert on_one_grid([a, a, a])
    assert not on_one_grid([a, a, b])
    assert not on_one_grid([b, a])


def test_different_grids_are_told_in_voxels_and_millimetres() -> None:
    line = different_grids(
        subject(image("a.nii"), image("b.nii", shape=[4, 5, 6], spacing=[3.0, 0.75, 0.75])), CHANNELS
    )
    assert isinstance(line, Quarantined)
    assert (line.item, line.kind) == ("a.nii", "grids")
    assert "T1 (8, 9, 10) voxels of 2 x 1 x 1 mm; T2 (4, 5, 6) voxels of 3 x 0.75 x 0.75 mm" in line.reason
    assert "--grids resample" in line.advice
