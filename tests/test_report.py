"""The report on an import: right counts, nothing of the archive's paths, one small page whatever comes in."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_volf.preprocessing.kinds import EXPECTED_KINDS, KIND_TITLES
from nnunet_volf.preprocessing.refusals import Quarantined
from nnunet_volf.preprocessing.report import MOST_THUMBNAILS, ImportReport, cases_to_show, describe_import, write_report
from nnunet_volf.preprocessing.report_data import measure, shown, sides
from nnunet_volf.preprocessing.report_figures import histograms, profile, spans_scales
from nnunet_volf.preprocessing.report_left_out import common_endings, group_by_kind
from nnunet_volf.preprocessing.report_outliers import find_outliers
from nnunet_volf.preprocessing.thumbnails import thumbnail
from nnunet_volf.preprocessing.volumes import Volume

REPOSITORY = Path(__file__).parent.parent
PNG = thumbnail(Volume(np.arange(4 * 9 * 9).reshape(4, 9, 9), (1.0, 1.0, 3.0)))


def facts(**changes: Any) -> dict[str, Any]:
    usual = {
        "orientation": "LPS",
        "dtype": "int16",
        "percentile_00_5": -900.0,
        "median": 40.0,
        "percentile_99_5": 800.0,
        "tissue": 0.4,
    }
    return {**usual, **changes}


def case(number: int, **changes: Any) -> dict[str, Any]:
    usual = {
        "case": f"case_{number:012x}",
        "format": ".nii.gz",
        "shape": [100, 512, 384],
        "spacing": [2.5, 0.75, 0.8],
        "channels": [facts()],
        "notes": [],
    }
    return {**usual, **changes}


def line(kind: str = "constant", **changes: str) -> Quarantined:
    usual = {"item": "clinic/meier/head.nii.gz", "stage": "check", "reason": "Every voxel is 3.", "advice": "Leave it."}
    return Quarantined(kind=kind, **{**usual, **changes})


def report(cases: Sequence[dict[str, Any]] = (), **changes: Any) -> ImportReport:
    usual: dict[str, Any] = {
        "dataset": "Dataset501_Archive",
        "source": "a folder tree",
        "channel_names": ("CT",),
        "found": {"NIfTI": len(cases)},
        "ignored": {},
        "added": len(cases),
        "quarantined": (),
        "thumbnails": {},
        "next_command": "nnunet-volf plan -d 501",
    }
    return ImportReport(cases=cases, **{**usual, **changes})


def page_of(content: ImportReport, folder: Path) -> str:
    write_report(folder / "import_report.html", content)
    return (folder / "import_report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What a browser would make of a page: tags with attributes, and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.unclosed = self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words).replace("\N{MULTIPLICATION SIGN}", "x")


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


def test_pictures_are_those_that_were_given_and_at_most_sixty(tmp_path: Path) -> None:
    cases = [case(n) for n in range(200)]
    content = report(cases, thumbnails={entry["case"]: PNG for entry in cases} | {"case_gone": PNG})
    page = page_of(content, tmp_path)
    pictures = [attributes["src"] or "" for tag, attributes in Outline(page).tags if tag == "img"]
    assert len(pictures) == MOST_THUMBNAILS
    assert {base64.b64decode(source.split(",")[1]) for source in pictures} == {PNG}
    assert "case_gone" not in page


def test_the_case_with_another_spacing_is_worth_a_look(tmp_path: Path) -> None:
    cases = [case(n) for n in range(30)] + [case(99, spacing=[2.5, 7.5, 0.8])]
    outliers = find_outliers(report(cases), measure(report(cases)))
    assert [(o.case, o.aspect, o.what) for o in outliers] == [
        (case(99)["case"], "spacing", "spacing along y 7.5 mm (median 0.75 mm)")
    ]
    assert "spacing along y 7.5 mm" in Outline(page_of(report(cases), tmp_path)).text


def test_the_case_with_another_size_or_intensity_is_worth_a_look() -> None:
    odd = [case(98, shape=[9, 512, 384]), case(99, channels=[facts(median=900.0)])]
    cases = [case(n) for n in range(30)] + odd
    outliers = find_outliers(report(cases), measure(report(cases)))
    assert {o.case: o.what for o in outliers} == {
        odd[0]["case"]: "size along z 22.5 mm (median 250 mm)",
        odd[1]["case"]: "median intensity 900 (median 40)",
    }


def test_ordinary_scatter_is_not_worth_a_look() -> None:
    generator = np.random.default_rng(0)
    cases = [case(n, spacing=[float(generator.uniform(2, 2.6)), 0.75, 0.8]) for n in range(300)]
    assert find_outliers(report(cases), measure(report(cases))) == []


@pytest.mark.parametrize(("thick", "standing_out"), [(2, 2), (30, 0)])
def test_a_second_protocol_is_no_outlier(thick: int, standing_out: int) -> None:
    cases = [case(n, spacing=[7.5 if n < thick else 2.5, 0.75, 0.8]) for n in range(100)]
    assert len(find_outliers(report(cases), measure(report(cases)))) == standing_out


@pytest.mark.parametrize("number", [3, 5, 10, 19])
def test_one_odd_case_stands_out_among_few(number: int) -> None:
    cases = [case(n) for n in range(number - 1)] + [case(99, spacing=[9.0, 0.75, 0.8])]
    assert [o.case for o in find_outliers(report(cases), measure(report(cases)))] == [case(99)["case"]]


def test_outliers_of_one_aspect_do_not_crowd_out_those_of_another(tmp_path: Path) -> None:
    cases = [case(n) for n in range(500)]
    cases += [case(1000 + n, spacing=[50.0, 0.75, 0.8]) for n in range(20)] + [case(5000, shape=[300, 512, 384])]
    text = Outline(page_of(report(cases), tmp_path)).text
    assert "size along z 750 mm" in text
    assert text.count("spacing along z 50 mm") == 4
    assert "and 16 more" in text


@pytest.mark.parametrize("quarantined", [(), (line(), line("duplicate"))])
def test_an_archive_without_any_case_has_a_report(quarantined: tuple[Quarantined, ...], tmp_path: Path) -> None:
    content = report([], quarantined=quarantined, found={}, next_command="")
    assert "No case could be taken" in Outline(page_of(content, tmp_path)).text
    assert "0 cases" in describe_import(content)


def test_a_single_case_has_a_report(tmp_path: Path) -> None:
    page = page_of(report([case(0)]), tmp_path)
    assert "1 case of CT" in Outline(page).text
    assert "nan" not in page


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-9, 7.0])
def test_equal_values_have_a_figure(value: float) -> None:
    assert histograms([("x", np.full(5, value))], "mm").count("<rect") == 1
    assert "nan" not in profile(np.full((5, 3), value))


@pytest.mark.parametrize("high", [2.0, 7.0, 9.0, 50.0, 90.0, 1e3, 1e6])
def test_a_histogram_has_a_few_round_ticks_within_its_range(high: float) -> None:
    drawn = histograms([("x", np.array([0.99, high]))], "mm")
    ticks = [float(tick.replace(",", "")) for tick in re.findall(r'class="tick"[^>]*>([^<]+)<', drawn)]
    assert 2 <= len(ticks) <= 6
    assert all(0.99 <= tick <= high for tick in ticks)
    assert all(float(f"{tick:.1g}") == tick or tick < 10 for tick in ticks)


def test_the_bars_of_a_histogram_hold_every_case() -> None:
    generator = np.random.default_rng(0)
    for values in (generator.uniform(1, 3, 500), np.exp(generator.normal(0, 3, 500)), generator.normal(0, 9, 500)):
        counts = re.findall(r"<title>(\d+) of 500", histograms([("x", values)], "mm"))
        assert sum(map(int, counts)) == 500


def test_intensities_that_differ_by_factors_are_drawn_on_a_logarithmic_axis() -> None:
    scales = np.geomspace(1, 1000, 50)[:, None] * np.array([0.0, 1.0, 2.0])
    levels = [float(y) for y in re.findall(r'class="level" x="40.0" y="([\d.]+)"', profile(scales))]
    assert len(levels) >= 3
    assert np.allclose(np.diff(levels), np.diff(levels)[0], rtol=0.6)
    line = re.findall(r'class="line" d="M([^"]+)"', profile(scales))[0]
    heights = np.array([float(point.split()[1]) for point in line.split("L")])
    assert np.allclose(np.diff(heights), np.diff(heights).mean(), atol=0.2)


@pytest.mark.parametrize("values", [np.array([[-1000.0, 1.0, 3000.0]]), np.array([[0.0, 0.0, 1.0]])])
def test_values_below_zero_or_of_zero_stay_on_a_linear_axis(values: np.ndarray) -> None:
    assert not spans_scales(np.concatenate([values, 100 * values]))


def test_the_cases_to_show_are_those_the_page_names(tmp_path: Path) -> None:
    content = report([case(n) for n in range(30)] + [case(99, spacing=[2.5, 7.5, 0.8])])
    assert cases_to_show(content) == [case(99)["case"]]


def test_many_cases_share_the_columns_of_a_profile() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=(50_000, 3)), axis=1)
    assert len(profile(values)) < 10_000


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
