"""The files of an import: quarantine table, manifest, dataset.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from nnunet_volf.files import replacing, write_json

from .assembly import Case
from .refusals import Quarantined


def write_quarantine(path: Path, lines: Iterable[Quarantined]) -> None:
    """Write the quarantine table; it names files of the archive and stays with the user."""
    with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow([field.name for field in fields(Quarantined)])
        table.writerows(sorted(astuple(line) for line in lines))


def write_manifest(path: Path, cases: Iterable[Case]) -> None:
    """Write a line of JSON for each case: neutral name, grid, facts; no path and nothing out of a header."""
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(manifest_entry(case)) + "\n" for case in cases)


def manifest_entry(case: Case) -> dict[str, object]:
    """Return what the manifest says about a case."""
    first = case.images[0]["facts"]
    return {
        "case": case.name,
        "content": case.content,
        "format": case.images[0]["format"],
        "shape": first["shape"],
        "spacing": first["spacing"],
        "notes": sorted({note for image in case.images for note in image["facts"]["notes"]}),
        "channels": [{key: value for key, value in image["facts"].items() if key != "notes"} for image in case.images],
    }


def write_dataset_json(path: Path, channels: Sequence[str], cases: Sequence[Case]) -> None:
    """Write nnU-Net's description of the dataset, with the images where they lie.

    nnU-Net's planners ask where labels are, so a name is given; nnU-Net's own preprocessing would fail on it, and its
    message would show the name.
    """
    entries = {case.name: {"images": [image["path"] for image in case.images], "label": "unlabeled"} for case in cases}
    description = describe_dataset(channels, len(cases))
    write_json(path, {**description, "overwrite_image_reader_writer": "SimpleITKIO", "dataset": entries})


def describe_dataset(channels: Sequence[str], cases: int) -> dict[str, Any]:
    """Return what nnU-Net asks to be told about a dataset; there are no labels but background."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
