"""What a report says about what was left out, and that the page on the quarantine explains all of it."""

from __future__ import annotations

import re
from pathlib import Path

from reports import Outline, case, line, page_of, report

from nnunet_volf.preprocessing.kinds import EXPECTED_KINDS, KIND_TITLES
from nnunet_volf.preprocessing.report_left_out import common_endings, group_by_kind

REPOSITORY = Path(__file__).parent.parent


def test_a_short_file_name_does_not_garble_the_words_of_a_reason() -> None:
    assert group_by_kind([line(item="a/is.nii", reason="This is.nii is bad")])[0].reasons == ("This the file is bad",)


def test_the_message_of_an_unexpected_error_stays_in_the_table() -> None:
    reasons = ["It failed with ValueError: invalid date 19500101 of Meier.", "It failed with KeyError."]
    groups = group_by_kind([line("error", reason=reason) for reason in reasons])
    assert groups[0].reasons == ("It failed with KeyError.", "It failed with ValueError.")


def test_left_out_files_are_told_by_their_ending(tmp_path: Path) -> None:
    items = ["a/b.NII.GZ", "a/c.nii.gz", "a/d.mha", "study (series 1)", "x/IM0001.dcm", "a/scan.smith"]
    assert group_by_kind([line(item=item) for item in items])[0].endings == (
        (".nii.gz", 2),
        ("DICOM", 2),
        (".mha", 1),
        ("other", 1),
    )


def test_uncommon_endings_of_ignored_files_are_summed_up() -> None:
    ignored = {".txt": 2, ".smith": 3, ".19500101": 4, "no ending": 1}
    assert common_endings(ignored) == [("other endings", 7), (".txt", 2), ("no ending", 1)]


def test_faults_come_before_what_was_to_be_expected_and_the_largest_group_first() -> None:
    quarantined = [line("duplicate")] * 9 + [line("constant")] + [line("unreadable")] * 2
    groups = group_by_kind(quarantined)
    assert [(group.kind, group.count, group.expected) for group in groups] == [
        ("unreadable", 2, False),
        ("constant", 1, False),
        ("duplicate", 9, True),
    ]


def test_a_group_shows_its_most_frequent_reasons_and_how_many_others_there_are(tmp_path: Path) -> None:
    reasons = ["often"] * 5 + ["b", "c", "d", "e"]
    content = report([case(0)], quarantined=[line(reason=reason) for reason in reasons])
    group = group_by_kind(content.quarantined)[0]
    assert (group.reasons, group.more_reasons) == (("often", "b", "c"), 2)
    assert "and 2 more of this kind" in Outline(page_of(content, tmp_path)).text


def raised_kinds() -> set[str]:
    """Return the kinds that the code can refuse with, or write into the quarantine."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "preprocessing").glob("*.py")))
    refused = re.findall(r"\bRefused\(\s*\"([a-z-]+)\"", code)
    written = re.findall(r"\bQuarantined\([^,()]+,\s*\"[a-z]+\",\s*\"([a-z-]+)\"", code)
    written += re.findall(r"\bQuarantined\([^,()]*\[[^]]*\][^,()]*,\s*\"[a-z]+\",\s*\"([a-z-]+)\"", code)
    return {*refused, *written}


def test_every_kind_has_a_title_and_is_explained() -> None:
    page = (REPOSITORY / "docs" / "quarantine.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", page, flags=re.MULTILINE))
    assert raised_kinds() <= explained
    assert explained == set(KIND_TITLES)
    assert set(KIND_TITLES) >= EXPECTED_KINDS


def test_the_page_on_the_quarantine_says_which_kinds_are_to_be_expected() -> None:
    page = (REPOSITORY / "docs" / "quarantine.md").read_text(encoding="utf-8")
    section = page[page.index("## As expected") : page.index("## ", page.index("## As expected") + 3)]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, flags=re.MULTILINE)) == EXPECTED_KINDS
