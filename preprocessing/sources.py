"""Find the images of a source: a folder tree, a glob, a table (CSV or JSON), or an nnU-Net raw dataset.

Nothing is opened here but tables, and files without a known ending, to see whether they are DICOM.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from nnunet_volf.datasets import RAW, find_dataset
from nnunet_volf.errors import DataError

from .dicom_headers import looks_like_dicom
from .imported import channels_of, described
from .refusals import Quarantined
from .source_tables import TABLE_ENDINGS, TableRow, read_table
from .volumes import FORMATS, ending_of

DICOM_ENDINGS = (".dcm", ".ima", ".dicom")

# The voxels of a header file (.mhd, .nhdr, .hdr), which names them itself.
_DETACHED = (".raw", ".zraw", ".img")
# What lies about in archives and is certainly no image: not worth opening.
_NEVER = frozenset(
    f".{ending}"
    for ending in (
        *("bak", "gz", "log", "py", "sh", "tar", "zip"),
        *("bval", "bvec", "csv", "doc", "docx", "html", "json", "md", "pdf", "tsv", "txt", "xls", "xlsx", "xml"),
        *("gif", "jpeg", "jpg", "png", "yaml", "yml"),
    )
)
# Beside a dataset's images lie its labels, which are no scans.
_LABELS = ("labelsTr", "labelsTs")
_NO_TEXT = "Its name, or that of a folder above, has bytes that are no UTF-8 text, which image readers do not open."
_NO_FILE = "It is no file but a pipe, a socket or a device, which may never end."
_NO_PATH = "It is listed under a name that no file can have."


@dataclass(frozen=True)
class SourceItem:
    """An image file, or a folder of DICOM files."""

    path: str
    name: str  # as the user knows it: relative to the archive
    dicom: bool = False
    subject: str | None = None  # where a table or an nnU-Net dataset says so
    channel: str | None = None


@dataclass
class Found:
    """What a source holds."""

    items: list[SourceItem] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)  # ending of what is no image -> how many
    quarantined: list[Quarantined] = field(default_factory=list)
    channel_names: tuple[str, ...] = ()  # where the source is an nnU-Net dataset


def find(source: str) -> Found:
    """Return the images of a source, sorted by name."""
    path = Path(source).expanduser().absolute()  # dataset.json names images from here, and is read from anywhere
    if not _is_text(path):
        raise DataError(f"{source!a}: {_NO_TEXT} Rename it, or give a link to it.")
    if path.is_dir():
        found = _from_nnunet(path) if _is_nnunet(path) else _from_folder(path)
    elif path.is_file():
        table = path.suffix.lower() in TABLE_ENDINGS
        found = _from_rows(read_table(path), path.parent) if table else _from_paths([path], path.parent)
    elif re.fullmatch(r"\d+|Dataset\d{3}_.+", source):
        found = _from_nnunet(find_dataset(source, RAW))
    elif glob.has_magic(source):
        matches = [Path(match) for match in glob.iglob(str(path), recursive=True)]  # noqa: PTH207 - follows links
        found = _from_paths(matches, _root_of_glob(path))
    else:
        raise DataError(
            f"{source} is no folder, file, glob or nnU-Net dataset. Give the folder that holds the scans, a pattern in "
            "quotes ('/archive/**/*.nii.gz'), a CSV or JSON table with a column 'path', or the number of a raw dataset."
        )
    found.items.sort(key=lambda item: item.name)
    return found


def _from_folder(root: Path) -> Found:
    found = Found()
    for folder, files in _walk(root):
        _sort_files(found, folder, files, root)
    return found


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield visible folders and their visible files; links are followed, but no folder is entered twice."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        left_out = {"__MACOSX", *(_LABELS if "imagesTr" in folders else ())}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
        yield Path(folder), sorted(name for name in files if not name.startswith("."))


def _sort_files(found: Found, folder: Path, files: list[str], root: Path) -> None:
    """Put files into `found` as images, as a DICOM folder, or among what is ignored."""
    dicom = False
    for name in files:
        ending = ending_of(name)
        if ending in FORMATS:
            path = folder / name
            _add(found, SourceItem(str(path), path.relative_to(root).as_posix()), "It is a link to nothing.")
        elif is_dicom(folder / name):
            dicom = True
        elif Path(name).suffix.lower() not in _DETACHED:
            found.ignored[Path(name).suffix.lower() or "no ending"] += 1
    if dicom:
        item = SourceItem(str(folder), folder.relative_to(root).as_posix(), dicom=True)
        _add(found, item, "It is a link to nothing.")


def _add(found: Found, item: SourceItem, otherwise: str) -> None:
    """Take an image if it is there, and say otherwise that it is not."""
    path = Path(item.path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        advice = "Take it out of the archive."
        found.quarantined.append(Quarantined(item.name, "find", "unreadable", _NO_FILE, advice))
    elif path.exists() and _is_text(path):
        found.items.append(item)
    elif path.exists():
        found.quarantined.append(Quarantined(item.name, "find", "unreadable", _NO_TEXT, "Rename it."))
    else:
        advice = "Bring the image back, or take out what names it."
        found.quarantined.append(Quarantined(item.name, "find", "missing", otherwise, advice))


def is_dicom(path: Path) -> bool:
    """Say whether a file is DICOM by its name, or by its first bytes where the name tells nothing."""
    suffix = path.suffix.lower()
    if suffix in DICOM_ENDINGS:
        return True
    return suffix not in _NEVER and suffix not in _DETACHED and looks_like_dicom(path)


def _is_text(path: Path) -> bool:
    """Say whether a path can be handed to SimpleITK, which otherwise ends the whole process."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _from_paths(paths: list[Path], root: Path) -> Found:
    """Take the files of a glob; folders in it are searched, and DICOM files stand for their folder."""
    found, by_folder = Found(), dict[Path, list[str]]()
    for path in sorted(paths):
        if path.is_dir():
            for folder, files in _walk(path):
                by_folder.setdefault(folder, []).extend(files)
        elif not path.name.startswith("."):
            by_folder.setdefault(path.parent, []).append(path.name)
    for folder, files in by_folder.items():
        _sort_files(found, folder, sorted(set(files)), root)
    return found


def _root_of_glob(pattern: Path) -> Path:
    """Return the part of a pattern before its first wildcard."""
    first = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
    return Path(*pattern.parts[:first])


def _from_rows(rows: list[TableRow], base: Path) -> Found:
    found = Found()
    for text, subject, channel in rows:
        path = base / _at_home(text)
        image = ending_of(path) in FORMATS
        if not can_be(path):
            found.quarantined.append(Quarantined(text, "find", "missing", _NO_PATH, "Correct the table."))
            continue
        if path.is_file() and not image and is_dicom(path):  # a slice stands for its folder, as everywhere
            path, text = path.parent, Path(text).parent.as_posix()
        item = SourceItem(str(path), text, subject=subject, channel=channel)
        if path.is_dir():
            _add_folder(found, item)
        elif path.is_file() and not image:
            found.ignored[path.suffix.lower() or "no ending"] += 1
        else:
            _add(found, item, "The table names it, but it is not there.")
    found.items = list(dict.fromkeys(found.items))
    return found


def _at_home(text: str) -> Path:
    """Return a path, from the user's folder where it begins with ~; that of another user may not be known."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def can_be(path: Path) -> bool:
    """Say whether a system could have a file of this name: it is not too long, and has no NUL in it."""
    try:
        path.lstat()
    except FileNotFoundError:
        return "\0" not in str(path)
    except (OSError, ValueError):
        return False
    return True


def _add_folder(found: Found, row: SourceItem) -> None:
    """Take what a folder holds that a table names."""
    inside = _from_folder(Path(row.path))
    for item in inside.items:
        name = (PurePosixPath(row.name) / item.name).as_posix()
        found.items.append(replace(item, name=name, subject=row.subject, channel=row.channel))
    found.ignored.update(inside.ignored)
    found.quarantined += [replace(line, item=f"{row.name}/{line.item}") for line in inside.quarantined]
    if not inside.items and not inside.quarantined:
        advice = "Correct the table, or take the row out."
        found.quarantined.append(Quarantined(row.name, "find", "missing", "This folder holds no image.", advice))


def _is_nnunet(folder: Path) -> bool:
    """Say whether a folder is a dataset: of nnU-Net, with images in place or listed, or of the Decathlon."""
    if not (folder / "dataset.json").is_file():
        return False
    return (folder / "imagesTr").is_dir() or "dataset" in described(folder)


def _from_nnunet(folder: Path) -> Found:
    """Take imagesTr and imagesTs, or what dataset.json lists; labels are not looked at."""
    description, names = described(folder), channels_of(folder)
    found = Found(channel_names=names)
    for case, entry in description.get("dataset", {}).items():
        if len(entry["images"]) > len(names):
            raise DataError(
                f"{folder / 'dataset.json'} lists {len(entry['images'])} images for {case!a}, and names {len(names)} "
                "channels. Correct it."
            )
        for channel, image in enumerate(entry["images"]):
            path = folder / os.path.expandvars(image)
            if not can_be(path):
                found.quarantined.append(Quarantined(case, "find", "missing", _NO_PATH, "Correct dataset.json."))
                continue
            item = SourceItem(str(path), f"{case}/{names[channel]}", subject=case, channel=names[channel])
            _add(found, item, "dataset.json lists it, but it is not there.")
    listed = {item.path for item in found.items}
    # Files of the Decathlon, which nnU-Net's format comes from, tell no channel.
    pattern = r"(.+)_(\d{4})" if "channel_names" in description or len(names) > 1 else r"(.+?)(?:_(\d{4}))?"
    for part in ("imagesTr", "imagesTs"):
        for path in sorted((folder / part).glob("[!.]*")) if (folder / part).is_dir() else []:
            ending = ending_of(path)
            match = re.fullmatch(pattern, path.name[: -len(ending)]) if ending in FORMATS else None
            channel = int(match[2] or 0) if match else 0
            if match is None or channel >= len(names):
                found.ignored[path.suffix.lower() or "no ending"] += 1
            elif str(path) not in listed:
                name = path.relative_to(folder).as_posix()
                item = SourceItem(str(path), name, subject=f"{part}/{match[1]}", channel=names[channel])
                _add(found, item, "It is a link to nothing.")
    return found
