"""A raw dataset that ``nnunet-volf import`` has made: its cases, and where their images lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.datasets import MANIFEST, RAW, dataset_number, find_dataset
from nnunet_volf.errors import DataError
from nnunet_volf.files import read_json


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
    try:
        description: dict[str, Any] = read_json(path)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no dataset.json, so its channels are not known. Write one, as nnU-Net asks for."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}). Correct it.") from error
    return description


def channels_of(folder: Path) -> tuple[str, ...]:
    """Return the names of a dataset's channels; they were called modalities by nnU-Net v1 and the Decathlon."""
    description = described(folder)
    names = description.get("channel_names") or description.get("modality")
    if not names:
        raise DataError(f'{folder / "dataset.json"} has no \'channel_names\'. Add them, for example {{"0": "CT"}}.')
    return tuple(names.values())


def read_manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """Go through what an import has noted of each case."""
    with (folder / MANIFEST).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


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
    cases = []
    for entry in read_manifest(folder):
        # A killed import may have written one of the two files and not the other.
        images = description["dataset"].get(entry["case"], {}).get("images", ())
        if images:
            paths = tuple(folder / image for image in images)
            cases.append(
                ImportedCase(entry["case"], paths, entry["content"], tuple(entry["shape"]), tuple(entry["spacing"]))
            )
    return ImportedDataset(folder.name, folder, tuple(description["channel_names"].values()), tuple(cases))
