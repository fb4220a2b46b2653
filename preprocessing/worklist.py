"""From the images of a source to the tasks of an import, and when a task has to be done again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from .converted import FOLDER as CONVERTED
from .dicom_headers import series_in
from .intake import FORMAT, IntakeTask
from .journal import Journal
from .parallel import run_parallel
from .progress import show
from .request import Request
from .sources import Found, SourceItem

PICTURES = 60  # thumbnails in a report

_Unit = tuple[SourceItem, ...]  # a file, or folders of DICOM files that belong together


def worklist(request: Request, found: Found, folder: Path, journal: Journal) -> list[IntakeTask]:
    """Return a task for each image file and each DICOM folder of a source, done or not."""
    policy = digest(repr((FORMAT, request.policy)))
    source = digest(str(Path(request.source).expanduser().absolute()))
    assigned = _tells_channels(request, found)
    folders = [item for item in found.items if item.dicom]
    units: list[_Unit] = [(item,) for item in found.items if not item.dicom]
    units += join_folders(_series(folders, request, journal))
    step = max(1, len(units) // PICTURES)
    tasks = []
    for number, unit in enumerate(units):
        first = unit[0]
        channel = first.channel if assigned else None
        place = repr((source, first.name, first.subject, channel))  # what a corrected table changes
        task = IntakeTask(
            key=first.path,
            name=first.name,
            signature=f"{digest(place, *(state(item) for item in unit))}-{policy}",
            paths=tuple(item.path for item in unit),
            dicom=first.dicom,
            subject=first.subject,
            channel=channel,
            source=source,
            policy=request.policy,
            converted=str(folder / CONVERTED),
            picture=number % step == 0,
            size=sum(_size(item) for item in unit),
        )
        tasks.append(task)
        for item in unit[1:]:  # once a folder of its own, now part of another's series
            if not journal.holds(item.path, f"part of {task.signature}"):
                journal.write(item.path, f"part of {task.signature}", {"images": [], "quarantined": []})
    return tasks


def _tells_channels(request: Request, found: Found) -> bool:
    """Say whether a table knows a channel that was asked for; else what it calls its channels does not matter."""
    there = {item.channel.lower() for item in found.items if item.channel}
    return not there.isdisjoint(name.lower() for name in request.channels)


def join_folders(folders: Sequence[tuple[SourceItem, Sequence[str]]]) -> list[_Unit]:
    """Put folders together that hold parts of one series, from (folder, series in it) pairs."""
    units: dict[int, set[SourceItem]] = {}
    unit_of: dict[str, int] = {}
    for number, (item, series) in enumerate(folders):
        joined = {unit_of[one] for one in series if one in unit_of}
        units[number] = {item}.union(*(units.pop(unit) for unit in joined))
        if joined:
            unit_of = {one: number if unit in joined else unit for one, unit in unit_of.items()}
        unit_of.update(dict.fromkeys(series, number))
    return sorted(
        (tuple(sorted(unit, key=lambda item: item.name)) for unit in units.values()), key=lambda unit: unit[0].name
    )


def _series(folders: Sequence[SourceItem], request: Request, journal: Journal) -> list[tuple[SourceItem, list[str]]]:
    """Return which series each folder holds; a lone folder need not be looked at for that."""
    if len(folders) < 2:
        return [(item, []) for item in folders]
    states = {item.path: state(item) for item in folders}
    to_do = [path for path, now in states.items() if not journal.holds(f"series:{path}", now)]
    running = run_parallel(series_in, to_do, workers=request.workers)
    for done in show(running, len(to_do), "Finding DICOM series"):
        journal.write(f"series:{done.task}", states[done.task], {"series": done.result or []})
    return [(item, journal.read(f"series:{item.path}")["series"]) for item in folders]


def state(item: SourceItem) -> str:
    """Return what changes when an input changes, without opening it."""
    try:
        if not item.dicom:
            status = Path(item.path).stat()
            return f"{status.st_size}:{status.st_mtime_ns}"
        with os.scandir(item.path) as entries:
            files = sorted(
                (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries if entry.is_file()
            )
    except OSError:  # removed since it was found, or not for us to read: looking at it will tell
        return "gone"
    return digest(*(f"{name}:{size}:{time}" for name, size, time in files))


def _size(item: SourceItem) -> int:
    """Return the bytes of a file, or of the files in a folder."""
    try:
        if not item.dicom:
            return Path(item.path).stat().st_size
        with os.scandir(item.path) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    except OSError:
        return 0


def digest(*parts: str) -> str:
    """Return a short hash of some text."""
    return blake2b("\n".join(parts).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
