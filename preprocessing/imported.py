"""A raw dataset that ``nnunet-volf import`` has made: its cases, and where their images lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.datasets import MANIFEST, RAW, dataset_number, find_dataset
from nnunet_volf.described import FileName, channel_names, read_dataset_json
from nnunet_volf.documents import Each, Entries
from nnunet_volf.errors import DataError

from .journal_rules import FACTS

_ENTRY = Entries(
    {
        "case": FileName(),
        **{name: FACTS[name] for name in ("content", "shape", "spacing", "notes")},
        "channels": Each(Entries(FACTS, needed=tuple(name for name in FACTS if name != "notes"))),
    },
    needed=("case", "content", "shape", "spacing"),
)
_AGAIN = "Import the archive again, which writes it anew."


@dataclass(frozen=True)
class ImportedCase:
    """A case: one image file a channel, all on one grid; shape and spacing as (z, y, x)."""

    name: str
    images: tuple[Path, ...]
    content: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class ImportedDataset:
    """A raw dataset without labels."""

    name: str
    folder: Path
    channel_names: tuple[str, ...]
    cases: tuple[ImportedCase, ...]

    @property
    def number(self) -> int:
        """Return 501 for ``Dataset501_Archive``."""
        return dataset_number(self.name)


def described(folder: Path) -> dict[str, Any]:
    """Return what the dataset.json of a dataset says."""
    path = folder / "dataset.json"
    if not path.is_file():
        raise DataError(f"{folder} has no dataset.json, so its channels are not known. Write one, as nnU-Net asks for.")
    return read_dataset_json(path)


def channels_of(folder: Path) -> tuple[str, ...]:
    """Return the names of a dataset's channels, in order."""
    return _channels(folder, described(folder))


def _channels(folder: Path, description: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(channel_names(folder / "dataset.json", description).values())


def read_manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """Go through what an import has noted of each case."""
    path = folder / MANIFEST
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            problem = _ENTRY.problem(entry, "")
            if problem:
                raise DataError(f"{path} is damaged in line {number}: {problem}. {_AGAIN}")
            yield entry


def imported_dataset(dataset: str) -> ImportedDataset:
    """Find an imported dataset by number or name and read its list of cases."""
    folder = find_dataset(dataset, RAW)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise DataError(
            f"{folder.name} was not imported by nnunet-volf ({manifest} does not exist). Import it as a dataset of its "
            f"own, without its labels: nnunet-volf import {folder} -d 501 -n Unlabeled."
        )
    description = described(folder)
    if "dataset" not in description:
        raise DataError(f"{folder / 'dataset.json'} has no 'dataset', which lists the cases. {_AGAIN}")
    cases = []
    listed = description["dataset"]
    for entry in read_manifest(folder):
        # A killed import may have written one of the two files and not the other.
        images = listed.get(entry["case"], {}).get("images", ())
        if images:
            paths = tuple(folder / image for image in images)
            cases.append(
                ImportedCase(entry["case"], paths, entry["content"], tuple(entry["shape"]), tuple(entry["spacing"]))
            )
    channels = _channels(folder, description)
    return ImportedDataset(folder.name, folder, channels, tuple(cases))
