"""Import an archive: look at every image once, remember what was found, and write a raw dataset without labels.

Looking is parallel, and each result goes into a journal at once; putting cases together is a pure function of the
journal. So a run that is interrupted goes on where it was, and one on a grown archive looks only at what is new.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_volf import files
from nnunet_volf.datasets import MANIFEST, RAW, nnunet_folder
from nnunet_volf.documents import read_text
from nnunet_volf.errors import DataError, StorageError
from nnunet_volf.files import write_lines
from nnunet_volf.printable import shortened

from . import assembly
from .alignment import AlignTask, align
from .assembly import Case, Subject
from .channels import CHANNELS, describe
from .converted import FOLDER as CONVERTED
from .converted import remove_others, remove_unfinished
from .intake import IntakeTask, take_in
from .journal import JOURNAL, Journal, only_import
from .journal_rules import is_sound
from .kinds import EXPECTED_KINDS
from .outputs import write_dataset_json, write_manifest, write_quarantine
from .parallel import run_parallel
from .progress import show
from .protected import known_images
from .refusals import Quarantined, Refused
from .report_left_out import common_endings
from .request import SOURCES, Request
from .sources import Found, can_be, find, is_dicom
from .worklist import PICTURES, worklist

# An import stops when more than a share of the images is refused, but not before this many have been looked at.
LEAST_LOOKED_AT = 20

_OTHER_KEYS = ("known:", "align:", "series:")  # of what the journal holds beside looks at images


@dataclass
class Imported:
    """What came out of an import."""

    folder: Path
    found: Found
    cases: list[Case]
    quarantined: list[Quarantined]
    looked_at: int = 0  # by this run
    new: int = 0  # cases that the dataset did not have before
    no_channel: int = 0  # images that belong to none of the channels
    unguarded: int = 0  # images of protected datasets that could not be read, and so not be compared with
    pictures: dict[str, str] = field(default_factory=dict)  # case -> PNG, base64


def import_archive(request: Request, found: Found | None = None) -> Imported:
    """Import a source into a raw dataset, adding to what that holds."""
    found = find(request.source) if found is None else found
    folder = nnunet_folder(RAW) / request.dataset
    found.items = [item for item in found.items if not Path(item.path).is_relative_to(folder)]  # our own output
    if not found.items and not found.quarantined:
        seen = ", ".join(f"{count} {ending}" for ending, count in common_endings(found.ignored)[:5]) or "nothing"
        raise DataError(f"{request.source} holds no image that can be read. Found there: {seen}.")
    _check_origin(request, folder)
    folder.mkdir(exist_ok=True)
    with only_import(folder):
        _check_origin(request, folder)  # which may have been another import's until now
        _note_origin(request, folder)
        return _import(request, found, folder)


def _check_origin(request: Request, folder: Path) -> None:
    """A labelled dataset is not written over, and an imported one keeps its channels."""
    kept = folder / CHANNELS
    there = (folder / "dataset.json").is_file()  # an import that took nothing binds nobody
    if there and not kept.is_file():
        raise DataError(
            f"{folder.name} exists and was not made by nnunet-volf import. Choose another number (-d). The images of "
            f"this dataset can be imported too: give {folder} as the source."
        )
    now = describe(request.policy.channels)
    before = read_text(kept).strip() if there else now
    if before != now:
        raise DataError(
            f"{folder.name} was imported with --channels {shortened(before, 500)}, and now --channels {now} is asked "
            "for. Give the same, or choose another number (-d)."
        )


def _note_origin(request: Request, folder: Path) -> None:
    """Note the channels, and where the images come from: the next import from there finds the dataset by itself."""
    write_lines(folder / CHANNELS, [describe(request.policy.channels)])
    sources, source = folder / SOURCES, str(Path(request.source).expanduser().absolute())
    known = read_text(sources).splitlines() if sources.is_file() else []
    if source not in known:
        write_lines(sources, [*known, source])


def _import(request: Request, found: Found, folder: Path) -> Imported:
    remove_unfinished(folder / CONVERTED)
    for own in (folder, folder / "import"):
        files.remove_unfinished(own)
    with Journal(folder / JOURNAL, is_sound) as journal:
        tasks = worklist(request, found, folder, journal)
        to_do = [task for task in tasks if _is_to_do(journal, task, request.retry)]
        _look(journal, tasks, to_do, request, folder)
        result = _put_together(journal, request, found, folder)
        result.no_channel = sum(not any(journal.read(task.key).values()) for task in tasks)
    result.looked_at = len(to_do)
    result.new = len({case.name for case in result.cases} - _names_before(folder))
    _write(request, result)
    return result


def _is_to_do(journal: Journal, task: IntakeTask, retry: bool) -> bool:
    if not journal.holds(task.key, task.signature):
        return True
    result = journal.read(task.key)
    return _are_gone(result["images"]) or (retry and bool(result["quarantined"]))


def _are_gone(images: Sequence[Mapping[str, Any]] | None) -> bool:
    """Say whether images that were converted have been deleted since."""
    return any(image.get("converted") and not Path(image["path"]).is_file() for image in images or ())


def _look(
    journal: Journal, tasks: Sequence[IntakeTask], to_do: Sequence[IntakeTask], request: Request, folder: Path
) -> None:
    """Do the tasks that are to do; stop when too many images are refused, those of earlier runs included."""
    keys = {task.key for task in tasks} - {task.key for task in to_do} if to_do else set()
    refused = Counter(fault for key in keys for fault in _fault(journal.read(key)))
    running = run_parallel(
        take_in, to_do, workers=request.workers, memory_of=memory_of, memory=request.memory, preload=_PRELOAD
    )
    with _saying_what_is_kept(journal, tasks), closing(show(running, len(to_do), "Looking at images")) as shown:
        for number, done in enumerate(shown, start=len(keys) + 1):
            result = done.result or _died(done.task, done.failure)
            journal.write(done.task.key, done.task.signature, result)
            refused.update(_fault(result))
            if number >= LEAST_LOOKED_AT and refused.total() > request.most_refused * number:
                raise _too_many(journal, refused, number, request, folder)


@contextmanager
def _saying_what_is_kept(journal: Journal, tasks: Sequence[IntakeTask]) -> Iterator[None]:
    """Where the disk ends an import, say how far it has come."""
    try:
        yield
    except StorageError as error:
        done = sum(journal.holds(task.key, task.signature) for task in tasks)
        raise StorageError(f"{error} {done} of {len(tasks)} images have been looked at, and are kept.") from error


def _fault(result: Mapping[str, Any]) -> list[str]:
    """Return the kind for which a task gave no image, if that is a fault of the archive."""
    faults = [line["kind"] for line in result["quarantined"] if line["kind"] not in EXPECTED_KINDS]
    return faults[:1] if not result["images"] else []


_PRELOAD = ("nnunet_volf.preprocessing.intake",)


def memory_of(task: IntakeTask) -> int:
    """Estimate the memory for a task: the voxels of compressed files a few times over, and the libraries.

    Medical images compress to a half, and a few copies are made on the way; a folder of DICOM files mostly holds
    several series, which are read one by one.
    """
    return (4 if task.dicom else 8) * task.size + (200 << 20)


def _died(task: IntakeTask, refused: Refused | None) -> dict[str, Any]:
    assert refused is not None  # what has no result has a failure
    line = Quarantined(task.name, "read", refused.kind, refused.reason, refused.advice)
    return {"images": [], "quarantined": [vars(line)]}


def _too_many(journal: Journal, refused: Counter[str], number: int, request: Request, folder: Path) -> DataError:
    table = folder / "import" / "quarantine.csv"
    write_quarantine(
        table, (Quarantined(**line) for key in journal for line in journal.read(key).get("quarantined", []))
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in refused.most_common())
    return DataError(
        f"{refused.total()} of the first {number} images were refused ({kinds}), more than the share of "
        f"{request.most_refused:g} that --most-refused allows. The reasons are in {table}. If the archive is like "
        "that, run the same command with --most-refused 1: what has been looked at is kept."
    )


def _put_together(journal: Journal, request: Request, found: Found, folder: Path) -> Imported:
    images, quarantined = [], [*found.quarantined]
    present = {item.path for item in found.items}
    for key in journal:
        if not key.startswith(_OTHER_KEYS) and (key in present or _is_there(Path(key))):
            result = journal.read(key)
            images += result["images"]
            quarantined += [Quarantined(**line) for line in result["quarantined"]]
    subjects, lines = assembly.group(images, request.channels)
    quarantined += lines
    known = known_images(() if request.keep_known else request.protected, journal, request.workers)
    subjects, lines = assembly.leave_out(subjects, known.contents)
    quarantined += lines
    subjects, lines = _align(journal, subjects, request, folder)
    quarantined += lines
    cases, lines = assembly.name_cases(subjects)
    remove_others(folder / CONVERTED, [image["path"] for image in images] + _paths(cases))
    pictures = {case.name: case.images[0]["picture"] for case in cases if case.images[0]["picture"]}
    return Imported(
        folder,
        found,
        cases,
        [*quarantined, *lines],
        unguarded=known.unread,
        pictures=dict(list(pictures.items())[:PICTURES]),
    )


def _paths(cases: Sequence[Case]) -> list[str]:
    return [image["path"] for case in cases for image in case.images]


def _is_there(path: Path) -> bool:
    """Say whether an image of an earlier import has not been removed since."""
    if not can_be(path):
        return False
    return path.is_file() or (path.is_dir() and any(is_dicom(file) for file in path.iterdir()))


def _align(
    journal: Journal, subjects: Sequence[Subject], request: Request, folder: Path
) -> tuple[list[Subject], list[Quarantined]]:
    """Bring the channels of a subject onto the first one's grid where the user wants that; else leave it out."""
    fitting = [subject for subject in subjects if assembly.on_one_grid(subject.images)]
    others = [subject for subject in subjects if not assembly.on_one_grid(subject.images)]
    if request.grids != "resample":
        return fitting, [assembly.different_grids(subject, request.channels) for subject in others]
    tasks = [AlignTask.of(subject.images, str(folder / CONVERTED)) for subject in others]
    to_do = [task for task in tasks if _is_to_align(journal, task, request.retry)]
    running = run_parallel(align, to_do, workers=request.workers)
    for done in show(running, len(to_do), "Aligning channels"):
        refused = done.failure and [done.failure.kind, done.failure.reason, done.failure.advice]
        journal.write(done.task.key, done.task.signature, {"images": done.result, "refused": refused})
    quarantined = []
    for subject, task in zip(others, tasks, strict=True):
        result = journal.read(task.key)
        if result["refused"]:
            quarantined.append(Quarantined(subject.name, "convert", *result["refused"]))
        else:
            images = ({**old, **new} for old, new in zip(subject.images, result["images"], strict=True))
            fitting.append(Subject(subject.name, tuple(images)))
    return sorted(fitting, key=lambda subject: subject.name), quarantined


def _is_to_align(journal: Journal, task: AlignTask, retry: bool) -> bool:
    if not journal.holds(task.key, task.signature):
        return True
    result = journal.read(task.key)
    return _are_gone(result["images"]) or (retry and bool(result["refused"]))


def _names_before(folder: Path) -> set[str]:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return set()
    with manifest.open("rb") as lines:
        found = (re.match(rb'\{"case": "(\w+)"', line) for line in lines)
        return {match[1].decode() for match in found if match}


def _write(request: Request, result: Imported) -> None:
    table = result.folder / "import" / "quarantine.csv"
    write_quarantine(table, result.quarantined)
    if not result.cases:
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(line.kind for line in result.quarantined).most_common())
        raise DataError(
            f"No image of {request.source} could be taken: {kinds or 'none belongs to the channels asked for'}. The "
            f"reasons are in {table}."
        )
    write_dataset_json(result.folder / "dataset.json", request.channels, result.cases)
    write_manifest(result.folder / MANIFEST, result.cases)
