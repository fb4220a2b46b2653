"""From the images of a source to the tasks of an import, and when a task has to be done again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    stamps = {item.path: stamp(item) for item in found.items}
    units += join_folders(_series(folders, stamps, request, journal))
    step = max(1, len(units) // PICTURES)
    tasks = []
    for number, unit in enumerate(units):
        first = unit[0]
        channel = first.channel if assigned else None
        place = repr((source, first.name, first.subject, channel))  # what a corrected table changes
        task = IntakeTask(
            key=first.path,
            name=first.name,
            signature=f"{digest(place, *(stamps[item.path].state for item in unit))}-{policy}",
            paths=tuple(item.path for item in unit),
            dicom=first.dicom,
            subject=first.subject,
            channel=channel,
            source=source,
            policy=request.policy,
            converted=str(folder / CONVERTED),
            picture=number % step == 0,
            size=sum(stamps[item.path].size for item in unit),
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


def _series(
    folders: Sequence[SourceItem], stamps: Mapping[str, Stamp], request: Request, journal: Journal
) -> list[tuple[SourceItem, list[str]]]:
    """Return which series each folder holds; a lone folder need not be looked at for that."""
    if len(folders) < 2:
        return [(item, []) for item in folders]
    states = {item.path: stamps[item.path].state for item in folders}
    to_do = [path for path, now in states.items() if not journal.holds(f"series:{path}", now)]
    running = run_parallel(series_in, to_do, workers=request.workers)
    for done in show(running, len(to_do), "Finding DICOM series"):
        journal.write(f"series:{done.task}", states[done.task], {"series": done.result or []})
    return [(item, journal.read(f"series:{item.path}")["series"]) for item in folders]


@dataclass(frozen=True)
class Stamp:
    """What a file, or the files in a folder, look like from outside."""

    state: str  # changes when the input changes
    size: int  # bytes


def stamp(item: SourceItem) -> Stamp:
    """Look at an input without opening it."""
    try:
        if not item.dicom:
            status = Path(item.path).stat()
            return Stamp(f"{status.st_size}:{status.st_mtime_ns}", status.st_size)
        with os.scandir(item.path) as entries:
            files = sorted(
                (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries if entry.is_file()
            )
    except OSError:  # removed since it was found, or not for us to read: looking at it will tell
        return Stamp("gone", 0)
    state = digest(*(f"{name}:{size}:{time}" for name, size, time in files))
    return Stamp(state, sum(size for _, size, _ in files))


def state(item: SourceItem) -> str:
    """Return what changes when an input changes."""
    return stamp(item).state


def digest(*parts: str) -> str:
    """Return a short hash of some text."""
    return blake2b("\n".join(parts).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
