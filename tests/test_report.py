"""The report on an import: right counts, nothing of the archive's paths, one small page whatever comes in."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from reports import Outline, case, facts, line, page_of, report

from nnunet_volf.preprocessing.kinds import KIND_TITLES
from nnunet_volf.preprocessing.refusals import Quarantined
from nnunet_volf.preprocessing.report import MOST_THUMBNAILS, describe_import, write_report
from nnunet_volf.preprocessing.report_data import shown, sides
from nnunet_volf.preprocessing.thumbnails import thumbnail
from nnunet_volf.preprocessing.volumes import Volume

PNG = thumbnail(Volume(np.arange(4 * 9 * 9).reshape(4, 9, 9), (1.0, 1.0, 3.0)))


def test_the_page_counts_what_was_found_taken_and_left_out(tmp_path: Path) -> None:
    quarantined = [line("constant")] * 3 + [line("duplicate")] * 5 + [line("known")] * 2 + [line("localizer")] * 4
    content = report([case(n) for n in range(12)], added=9, found={"NIfTI": 20, "DICOM": 6}, quarantined=quarantined)
    text = Outline(page_of(content, tmp_path)).text
    for said in (
        "12 cases of CT from a folder tree, 9 of them new. 14 left out",
        "12 cases: 9 new, 3 from before",
        "26 images found: 20 NIfTI, 6 DICOM",
        "12 cases taken 5 duplicates 2 in a protected dataset 4 other than volumes 3 refused",
        "0.8 x 0.75 x 2.5 median spacing in mm",
        "384 x 512 x 100 median size in voxels; 307 x 384 x 250 mm",
        "nnunet-volf plan -d 501",
    ):
        assert said in text


def test_the_page_is_well_formed_and_fits_one_screen_of_any_width(tmp_path: Path) -> None:
    content = report([case(n) for n in range(3)], quarantined=[line()], thumbnails={case(0)["case"]: PNG})
    outline = Outline(page_of(content, tmp_path))
    assert outline.unclosed == []
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in outline.tags


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    content = report([case(0)], quarantined=[line()], thumbnails={case(0)["case"]: PNG})
    page = page_of(content, tmp_path)
    assert "://" not in page
    assert "@import" not in page
    assert "url(" not in page
    for tag, attributes in Outline(page).tags:
        assert tag not in {"script", "link", "iframe", "object"}
        assert tag != "img" or (attributes["src"] or "").startswith("data:image/png;base64,")
        assert tag == "img" or "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")


def test_everything_that_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    cases = [case(0, case=evil, format=evil, notes=[evil], channels=[facts(orientation=evil, dtype=evil)])]
    quarantined = [line(evil, reason=evil, advice=evil)]
    names = {"dataset": evil, "source": evil, "channel_names": (evil,), "next_command": evil}
    outliers = [case(n) for n in range(1, 20)] + [case(20, case=evil + "2", spacing=[50.0, 9.0, 9.0])]
    for content in (
        report(cases, found={evil: 1}, ignored={evil: 1}, quarantined=quarantined, thumbnails={evil: PNG}, **names),
        report(outliers, **names),
    ):
        page = page_of(content, tmp_path)
        assert "<script" not in page
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize("item", ["clinic/Meier^Anna/head.nii.gz", r"C:\clinic\Meier^Anna\19500101.dcm", "Meier (s 3)"])
def test_no_part_of_a_path_is_shown_even_if_a_reason_holds_it(item: str, tmp_path: Path) -> None:
    quarantined = [line(item=item, reason=f"Reading {item} failed: {Path(item.replace(chr(92), '/')).name} is bad.")]
    content = report([case(0)], quarantined=quarantined, ignored={".meier": 2, ".txt": 1})
    for text in (page_of(content, tmp_path), describe_import(content)):
        for part in ("Meier", "meier", "19500101", "clinic", "head.nii"):
            assert part not in text
        assert "Reading the file failed: the file is bad." in text


def test_pictures_are_those_that_were_given_and_at_most_sixty(tmp_path: Path) -> None:
    cases = [case(n) for n in range(200)]
    content = report(cases, thumbnails={entry["case"]: PNG for entry in cases} | {"case_gone": PNG})
    page = page_of(content, tmp_path)
    pictures = [attributes["src"] or "" for tag, attributes in Outline(page).tags if tag == "img"]
    assert len(pictures) == MOST_THUMBNAILS
    assert {base64.b64decode(source.split(",")[1]) for source in pictures} == {PNG}
    assert "case_gone" not in page


@pytest.mark.parametrize("quarantined", [(), (line(), line("duplicate"))])
def test_an_archive_without_any_case_has_a_report(quarantined: tuple[Quarantined, ...], tmp_path: Path) -> None:
    content = report([], quarantined=quarantined, found={}, next_command="")
    assert "No case could be taken" in Outline(page_of(content, tmp_path)).text
    assert "0 cases" in describe_import(content)


def test_a_single_case_has_a_report(tmp_path: Path) -> None:
    page = page_of(report([case(0)]), tmp_path)
    assert "1 case of CT" in Outline(page).text
    assert "nan" not in page


def test_a_large_archive_still_makes_a_small_page_and_a_short_table(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cases = [
        case(
            n,
            format=f".f{n % 40}",
            spacing=[float(s) for s in generator.uniform(0.5, 5, 3)],
            notes=[f"note {n}"],
            channels=[facts(median=float(generator.normal()), orientation=f"O{n}") for _ in range(12)],
        )
        for n in range(3_000)
    ]
    kinds = [*KIND_TITLES, *(f"kind {n}" for n in range(9))]
    quarantined = [line(kinds[n % len(kinds)], reason=f"{n} " + "long " * 99) for n in range(5_000)]
    content = report(
        cases,
        channel_names=tuple(f"channel {n}" for n in range(12)),
        quarantined=quarantined,
        found={f"format {n}": n for n in range(30)},
        ignored={f".{n}": n for n in range(5_000)},
        thumbnails={entry["case"]: PNG for entry in cases},
    )
    page = page_of(content, tmp_path)
    assert len(page) < 600_000
    for said in ("and 2,990 other notes", "and 4 more channels", ">2,992 others<"):
        assert said in page
    table = describe_import(content).splitlines()
    assert len(table) <= 40
    assert max(map(len, table)) <= 100


def test_the_table_tells_counts_ranges_and_what_to_do() -> None:
    cases = [case(n, spacing=[spacing, 0.75, 0.8]) for n, spacing in enumerate((1.0, 2.5, 5.0))]
    quarantined = [line("constant"), line("duplicate"), line("duplicate")]
    table = describe_import(report(cases, added=1, quarantined=quarantined, ignored={".txt": 4}))
    for said in (
        r"^Dataset501_Archive: 3 cases of CT, from a folder tree$",
        r"^  taken     3 cases \(1 new, 2 from before\)$",
        r"^  left out  3 \(1 refused, 2 as expected\)$",
        r"^  ignored   4 files of other kinds: 4 .txt$",
        r"^  z +1 +2\.5 +5 +100 +100 +100 +100 +250 +500$",
        r"^  CT +-900 +40 +800 +40 %$",
        r"^ +1  constant +Every voxel is 3\.$",
        r"^ +-> Leave it\.$",
        r"^Next: nnunet-volf plan -d 501$",
    ):
        assert re.search(said, table, flags=re.MULTILINE), said


def test_the_same_import_gives_the_same_page_in_any_order(tmp_path: Path) -> None:
    cases = [case(n, notes=[f"note {n % 3}"]) for n in range(5)]
    quarantined = [line(kind, reason=f"reason {n}") for n, kind in enumerate(["constant", "grids", "grids", "known"])]
    first = page_of(report(cases, quarantined=quarantined), tmp_path)
    assert page_of(report(cases, quarantined=quarantined[::-1]), tmp_path) == first


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    page_of(report([case(0)]), tmp_path)
    before = (tmp_path / "import_report.html").read_bytes()
    with pytest.raises(KeyError):
        write_report(tmp_path / "import_report.html", report([{"case": "case_0"}]))
    assert (tmp_path / "import_report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["import_report.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.7890123, "0.789"), (-1024.0, "-1,024"), (99.96, "100"), (123456.0, "123,456"), (np.nan, "-")],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert shown(value) == text


def test_sides_are_read_in_the_order_they_are_given() -> None:
    assert sides((512, 384, 100)).split(" \N{MULTIPLICATION SIGN} ") == ["512", "384", "100"]
