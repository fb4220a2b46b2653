"""Which channel and subject an image is given, from patterns, from a table, or from neither."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.errors import SettingsError
from nnunet_volf.preprocessing.channels import (
    CHANNELS,
    ChannelRule,
    Place,
    describe,
    kept_channels,
    parse_channels,
    place,
)

T1_T2 = parse_channels(["T1=*_t1.nii.gz", "T2=*_t2.nii.gz"])
WORD = st.text("abcXYZ019-.+()[]{}^$|\\ ", min_size=1, max_size=6).filter(lambda word: word.strip(". ") != "")
FOLDERS = st.lists(WORD, max_size=3)


def message(*arguments: str) -> str:
    with pytest.raises(SettingsError) as refused:
        parse_channels(arguments)
    return str(refused.value)


# -------------------------------------------------------------------------------------------------- arguments


def test_names_and_patterns_are_read() -> None:
    assert parse_channels(["CT"]) == (ChannelRule("CT"),)
    assert (ChannelRule("T1", "*_t1.nii.gz"), ChannelRule("T2", "*_t2.nii.gz")) == T1_T2
    assert parse_channels(["A=x=y*"]) == (ChannelRule("A", "x=y*"),)


@pytest.mark.parametrize("argument", ["=*.nii", "T1=", "", "="])
def test_half_a_rule_is_refused_with_an_example(argument: str) -> None:
    assert repr(argument) in message(argument)
    assert "T1=*_t1.nii.gz" in message(argument)


@pytest.mark.parametrize("second", ["T1", "t1"])
def test_a_name_given_twice_is_refused(second: str) -> None:
    assert "each name may occur once" in message("T1=a*", f"{second}=b*")


def test_patterns_for_some_channels_only_are_refused() -> None:
    assert "all have a pattern or none has" in message("T1=a*", "T2")


@given(st.lists(st.tuples(WORD, st.none() | WORD), min_size=1, max_size=4, unique_by=lambda rule: rule[0].lower()))
def test_rules_are_described_as_they_would_be_typed(rules: list[tuple[str, str | None]]) -> None:
    typed = tuple(ChannelRule(name, pattern) for name, pattern in rules)
    if len(typed) > 1 and len({rule.pattern is None for rule in typed}) > 1:
        return  # refused
    assert parse_channels(shlex.split(describe(typed))) == typed


# --------------------------------------------------------------------------------------------------- patterns


def test_the_subject_is_the_folder_and_what_the_wildcards_stand_for() -> None:
    assert place(T1_T2, "a/b/p1_t1.nii.gz") == Place("a/b/p1", 0)
    assert place(T1_T2, "a/b/p1_t2.nii.gz") == Place("a/b/p1", 1)
    assert place(T1_T2, "a/c/p1_t2.nii.gz") == Place("a/c/p1", 1)
    assert place(T1_T2, "a/b/p1_flair.nii.gz") is None


def test_a_pattern_with_folders_is_matched_against_the_end_of_the_path() -> None:
    rules = parse_channels(["T1=sub-*/anat/*_T1w.nii.gz", "T2=sub-*/anat/*_T2w.nii.gz"])
    assert place(rules, "site/sub-7/anat/x_T1w.nii.gz") == Place("site/7/x", 0)
    assert place(rules, "sub-7/anat/x_T2w.nii.gz") == Place("7/x", 1)
    assert place(rules, "anat/x_T1w.nii.gz") is None
    assert place(rules, "sub-7/deep/anat/x_T1w.nii.gz") is None


def test_a_wildcard_does_not_cross_a_folder() -> None:
    rules = parse_channels(["T1=*/t1.nii", "T2=*/t2.nii"])
    assert place(rules, "a/b/t1.nii") == Place("a/b", 0)
    assert place(rules, "t1.nii") is None


def test_a_question_mark_stands_for_one_character() -> None:
    rules = parse_channels(["T1=p?_t1.nii", "T2=p?_t2.nii"])
    assert place(rules, "p1_t1.nii") == Place("1", 0)
    assert place(rules, "p12_t1.nii") is None


def test_case_of_the_fixed_part_does_not_matter() -> None:
    assert place(T1_T2, "a/P1_T1.NII.GZ") == Place("a/P1", 0)


def test_other_signs_of_a_pattern_mean_themselves() -> None:
    rules = parse_channels(["A=*(1).nii", "B=*[b]+.nii"])
    assert place(rules, "x(1).nii") == Place("x", 0)
    assert place(rules, "x1.nii") is None
    assert place(rules, "x[b]+.nii") == Place("x", 1)
    assert place(rules, "xb.nii") is None


def test_the_first_rule_that_matches_counts() -> None:
    rules = parse_channels(["A=*_a*.nii", "B=*.nii"])
    assert place(rules, "x_a1.nii") == Place("x/1", 0)
    assert place(rules, "x_b.nii") == Place("x_b", 1)


@given(FOLDERS, FOLDERS, WORD, WORD, WORD)
def test_channels_meet_in_a_subject_just_when_folder_and_wildcard_are_the_same(
    here: list[str], there: list[str], one: str, other: str, sign: str
) -> None:
    rules = parse_channels([f"A=*_{sign}1.nii", f"B=*_{sign}2.nii"])
    first = place(rules, "/".join([*here, f"{one}_{sign}1.nii"]))
    second = place(rules, "/".join([*there, f"{other}_{sign}2.nii"]))
    assert first is not None
    assert second is not None
    assert (first.channel, second.channel) == (0, 1)
    assert (first.subject == second.subject) == ((here, one) == (there, other))


# ------------------------------------------------------------------------------------- one channel, and tables


def test_without_a_pattern_each_image_is_a_subject() -> None:
    rules = parse_channels(["CT"])
    assert place(rules, "a/x.nii") == Place("a/x.nii", 0)
    assert place(rules, "a/x.nii", subject="p1") == Place("a/x.nii", 0)


def test_one_channel_with_a_pattern_takes_what_matches_and_each_image_is_a_subject() -> None:
    rules = parse_channels(["CT=*_ct.nii"])
    assert place(rules, "a/x_ct.nii") == Place("a/x_ct.nii", 0)
    assert place(rules, "a/x_mr.nii") is None


def test_what_a_table_says_comes_first() -> None:
    rules = parse_channels(["T1", "T2"])
    assert place(rules, "x.nii", "p1", "t2") == Place("p1", 1)
    assert place(rules, "x.nii", "p1", "PD") is None
    assert place(rules, "x.nii", "p1") is None
    assert place(T1_T2, "x_t1.nii.gz", "p1", "T2") == Place("p1", 1)
    assert place(T1_T2, "x_t1.nii.gz", "p1") == Place("p1", 0)


def test_of_a_table_with_several_channels_only_the_one_asked_for_is_taken() -> None:
    rules = parse_channels(["T1"])
    assert place(rules, "x.nii", "p1", "t1") == Place("x.nii", 0)
    assert place(rules, "y.nii", "p1", "T2") is None


# ------------------------------------------------------------------------------------------------- imported before


def test_the_channels_of_an_import_that_took_something_are_remembered_as_arguments(tmp_path: Path) -> None:
    rules = (ChannelRule("T2 FLAIR", "*_a b.nii"), ChannelRule("T1", "*_t1.nii.gz"))
    assert kept_channels(tmp_path) == []
    (tmp_path / "import").mkdir()
    (tmp_path / CHANNELS).write_text(f"{describe(rules)}\n", encoding="utf-8")
    assert kept_channels(tmp_path) == [], "there is no dataset yet, so nothing is bound"
    (tmp_path / "dataset.json").touch()
    assert parse_channels(kept_channels(tmp_path)) == rules
