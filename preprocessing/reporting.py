"""From what an import did to its report: on the screen, and as a page in the dataset's folder."""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from .archive import Imported
from .outputs import manifest_entry
from .refusals import Refused
from .report import ImportReport, cases_to_show, describe_import, write_report
from .report_left_out import common_endings
from .request import Request
from .sources import Found
from .thumbnails import thumbnail
from .volumes import FORMATS, ending_of, read_volume

PAGE = "import_report.html"


def describe_found(found: Found, request: Request) -> str:
    """Say what a source holds and where it will go, before anything is looked into."""
    counts = ", ".join(f"{count:,} {name}" for name, count in _formats(found).items()) or "no images"
    ignored = ", ".join(f"{count:,} {ending}" for ending, count in common_endings(found.ignored)[:5])
    lines = [f"{request.source}: {counts}" + (f"; not looked at: {ignored}" if ignored else "")]
    rules = ", ".join(rule.name + (f" ({rule.pattern})" if rule.pattern else "") for rule in request.policy.channels)
    workers = f"{request.workers} workers" if request.workers else "no workers, in this process"
    lines.append(f"into {request.dataset}, as {rules}, with {workers}")
    if request.protected and not request.keep_known:
        lines.append(f"images that occur in dataset {', '.join(request.protected)} are left out")
    return "\n".join(lines)


def report(imported: Imported, request: Request, next_command: str) -> str:
    """Write the page, which ends in the next command, and return the table for the screen."""
    content = ImportReport(
        dataset=imported.folder.name,
        source=_kind(request.source),
        channel_names=request.channels,
        found=_formats(imported.found),
        ignored=imported.found.ignored,
        cases=[manifest_entry(case) for case in imported.cases],
        added=imported.new,
        quarantined=imported.quarantined,
        thumbnails={},
        next_command=next_command,
    )
    pictures = {case: base64.b64decode(picture) for case, picture in imported.pictures.items()}
    page = imported.folder / PAGE
    write_report(
        page, replace(content, thumbnails=pictures | _draw(imported, set(cases_to_show(content)) - set(pictures)))
    )
    lines = [describe_import(replace(content, next_command="")), "", f"report: {page}"]
    if imported.no_channel:
        lines.append(f"{imported.no_channel:,} images belong to none of the channels and were not looked at")
    if imported.unguarded:
        lines.append(
            f"warning: {imported.unguarded:,} images of dataset {', '.join(request.protected)} cannot be read, so "
            "whether they occur here is not known"
        )
    if imported.quarantined:
        lines.append(f"quarantine: {imported.folder / 'import' / 'quarantine.csv'}")
    return "\n".join(lines)


def _draw(imported: Imported, names: Collection[str]) -> dict[str, bytes]:
    """Return pictures of a few more cases; pictures are taken of a sample, and the odd ones should be seen too."""
    pictures = {}
    for case in imported.cases:
        if case.name in names:
            with contextlib.suppress(Refused):
                pictures[case.name] = thumbnail(read_volume(Path(case.images[0]["path"])))
    return pictures


def _formats(found: Found) -> dict[str, int]:
    names = ("DICOM folders" if item.dicom else FORMATS[ending_of(item.path)] for item in found.items)
    return dict(Counter(names).most_common())


def _kind(source: str) -> str:
    path = Path(source).expanduser()
    if path.is_dir():
        return "a folder"
    if path.is_file():
        return "a table" if path.suffix.lower() in (".csv", ".tsv", ".json") else "a file"
    return "an nnU-Net dataset" if source.isalnum() or source.startswith("Dataset") else "a pattern"
