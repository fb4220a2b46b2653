"""Made-up imports to report on, and a look at a page as a browser sees it."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from nnunet_volf.preprocessing.refusals import Quarantined
from nnunet_volf.preprocessing.report import ImportReport, write_report


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
