"""Look at one image file or one folder of DICOM series: read, check, and convert what nnU-Net's readers cannot read.

This is what the workers of an import do. A result is plain data, so that a journal can keep it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .channels import place
from .checks import audit
from .converted import write_converted
from .dicom_headers import SliceHeader, read_header
from .dicom_series import Series, group_series
from .dicom_time import by_time, load_together
from .refusals import Refused
from .request import Policy
from .sources import is_dicom
from .thumbnails import thumbnail
from .volumes import FORMATS, Volume, ending_of, read_volume

# Raised when looking comes to take, refuse or tell something else of the same image: archives are then looked at anew.
FORMAT = 1


@dataclass(frozen=True)
class IntakeTask:
    """One file, or one or more folders that DICOM series are spread over."""

    key: str
    name: str
    signature: str
    paths: tuple[str, ...]
    dicom: bool
    subject: str | None
    channel: str | None
    source: str  # names of subjects mean the same within one source only
    policy: Policy
    converted: str  # folder for converted images
    picture: bool
    size: int  # bytes of its files


def take_in(task: IntakeTask) -> dict[str, Any]:
    """Return {"images": [...], "quarantined": [...]} for a task; only a dying process gets in the way of that."""
    return _take_series(task) if task.dicom else _take_file(task)


def _take_file(task: IntakeTask) -> dict[str, Any]:
    path = Path(task.paths[0])
    where = place(task.policy.channels, task.name, task.subject, task.channel)
    if where is None:
        return {"images": [], "quarantined": []}
    stage = "read"
    try:
        volume = read_volume(path, task.policy.time)
        stage = "check"
        image = _image(task, volume, FORMATS[ending_of(path)], converted=volume.reduced)
    except Refused as refused:
        return {"images": [], "quarantined": [_line(task.name, stage, refused)]}
    return {
        "images": [{**image, "subject": f"{task.source}/{where.subject}", "channel": where.channel, "name": task.name}],
        "quarantined": [],
    }


def _take_series(task: IntakeTask) -> dict[str, Any]:
    headers, quarantined = _read_headers(task)
    series, left_out = group_series(headers, task.policy.dicom)
    groups, too_many = by_time(series, task.policy.time)
    quarantined += [_line(_series_name(task, one), "read", refused) for one, refused in (*left_out, *too_many)]
    images = []
    for stacks in groups:
        one = stacks[0]
        name = _series_name(task, one)
        description = one.description.replace("/", "_")
        subject = task.subject or one.study
        where = place(task.policy.channels, f"{task.name}/{description}", subject, task.channel)
        if where is None:
            continue
        stage = "convert"
        try:
            volume = load_together(stacks, task.policy.dicom)
            stage = "check"
            image = _image(task, volume, "DICOM", converted=True)
        except Refused as refused:
            quarantined.append(_line(name, stage, refused))
            continue
        subject = where.subject if len(task.policy.channels) > 1 else name
        images.append({**image, "subject": f"{task.source}/{subject}", "channel": where.channel, "name": name})
    return {"images": images, "quarantined": quarantined}


def _series_name(task: IntakeTask, series: Series) -> str:
    """Name a series by its first file, which a user can look for, and by how many there are."""
    return f"{task.name}/{Path(series.paths[0]).name} (of {len(series.paths)} files, series {series.key})"


def _read_headers(task: IntakeTask) -> tuple[list[SliceHeader], list[dict[str, str]]]:
    headers, quarantined = [], []
    for folder in map(Path, task.paths):
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or not path.is_file() or not is_dicom(path):
                continue
            try:
                headers.append(read_header(path))
            except Refused as refused:
                quarantined.append(_line(f"{task.name}/{path.name}", "read", refused))
    return headers, quarantined


def _image(task: IntakeTask, volume: Volume, kind: str, converted: bool) -> dict[str, Any]:
    facts = audit(volume).to_mapping()
    path = write_converted(Path(task.converted), volume, facts["content"]) if converted else Path(task.paths[0])
    return {
        "path": str(path),
        "converted": converted,
        "format": kind,
        "facts": facts,
        "grid": [*volume.origin, *volume.direction],
        "picture": base64.b64encode(thumbnail(volume)).decode("ascii") if task.picture else None,
    }


def _line(name: str, stage: str, refused: Refused) -> dict[str, str]:
    return {"item": name, "stage": stage, "kind": refused.kind, "reason": refused.reason, "advice": refused.advice}
