"""What is there and what is to do in a folder of preprocessed cases, found out without changing anything."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from nnunet_volf.errors import DataError
from nnunet_volf.plans import PlannedDataset

from .budget import disk_needed, memory_needed, target_shape
from .imported import ImportedCase, ImportedDataset
from .signature import case_signature, plan_signature
from .storage import ENDING, MASK_ENDING, stored_signature
from .suspects import is_damaged, suspects

_NEEDED = (
    "data_identifier", "patch_size", "spacing", "normalization_schemes", "use_mask_for_norm", "preprocessor_name",
    "resampling_fn_data", "resampling_fn_data_kwargs", "resampling_fn_seg", "resampling_fn_seg_kwargs",
)  # fmt: skip
_NEEDED_OF_ALL = ("image_reader_writer", "transpose_forward", "foreground_intensity_properties_per_channel")


@dataclass(frozen=True)
class Work:
    """A case that is to be preprocessed, with what that takes."""

    case: ImportedCase
    signature: Mapping[str, Any]
    memory: int
    disk: int


@dataclass(frozen=True)
class Survey:
    """A folder compared with the dataset and the plan that it is for."""

    folder: Path
    name: str  # data identifier
    configuration: Mapping[str, Any]
    plans: str  # as JSON
    dtype: str
    part: tuple[int, int]
    cases: tuple[ImportedCase, ...]  # of all parts, sorted
    todo: tuple[Work, ...]  # of this part, as all that follows
    done: int
    outdated: tuple[str, ...]  # names with files of another input or plan, or damaged
    strays: tuple[str, ...]  # names with files of ours that the dataset does not have; of all parts

    @property
    def quarantine(self) -> Path:
        """The table of what this part refuses."""
        number, parts = self.part
        suffix = f"_part{number}of{parts}" if parts > 1 else ""
        return self.folder.parent / f"quarantine_{self.name}{suffix}.csv"

    @cached_property
    def disk(self) -> int:
        """Bytes that the cases to do take at most."""
        return sum(work.disk for work in self.todo)


def survey(
    dataset: ImportedDataset,
    planned: PlannedDataset,
    configuration: str,
    *,
    part: tuple[int, int] = (0, 1),
    dtype: str = "float32",
) -> Survey:
    """Find out which cases are done, outdated, missing, or no longer part of the dataset."""
    number, parts = part
    if not 0 <= number < parts:
        raise DataError(
            f"Part {number}/{parts} does not exist. The parts of {parts} are 0/{parts} to {parts - 1}/{parts}."
        )
    config = planned.require(configuration, _NEEDED, _NEEDED_OF_ALL)
    channels = len(dataset.channel_names)
    if len(config["normalization_schemes"]) != channels:
        raise DataError(
            f"{dataset.name} has {channels} channels ({', '.join(dataset.channel_names)}), its plans "
            f"{planned.plans['plans_name']} are for {len(config['normalization_schemes'])}. Plan it for a dataset with "
            "the same channels, or import it with --channels."
        )
    _check_axes(planned, config)
    folder = planned.folder / config["data_identifier"]
    cases = tuple(sorted(dataset.cases, key=lambda case: case.name))
    strays = _strays(folder, {case.name for case in cases}, dataset)

    order = planned.plans["transpose_forward"]
    plan = plan_signature(planned.plans, config, dtype)
    masked = any(config["use_mask_for_norm"])
    suspected = suspects(planned.name, folder)
    todo, outdated, done = [], [], 0
    for case in cases[number::parts]:
        signature = case_signature(case, plan)
        mask_fits = (folder / f"{case.name}{MASK_ENDING}").is_file() == masked
        written = mask_fits and stored_signature(folder, case.name) == signature
        if written and not (case.name in suspected and is_damaged(folder, case.name)):
            done += 1
            continue
        shape, spacing = ([values[axis] for axis in order] for values in (case.shape, case.spacing))
        target = target_shape(shape, spacing, config["spacing"])
        memory = memory_needed(shape, target, channels, config)
        todo.append(Work(case, signature, memory, disk_needed(target, channels, dtype, masked)))
        if any((folder / f"{case.name}{ending}").is_file() for ending in (ENDING, MASK_ENDING)):
            outdated.append(case.name)
    return Survey(
        folder,
        config["data_identifier"],
        config,
        json.dumps(planned.plans),
        dtype,
        part,
        cases,
        tuple(todo),
        done,
        tuple(outdated),
        tuple(strays),
    )


def _check_axes(planned: PlannedDataset, config: Mapping[str, Any]) -> None:
    """Refuse plans whose numbers are not for volumes, or not for one number of axes."""
    order, axes = planned.plans["transpose_forward"], len(config["patch_size"])
    problem = ""
    if sorted(order) != [0, 1, 2]:
        problem = f"transpose_forward is {order}, which is no order of three axes"
    elif len(config["spacing"]) != axes:
        problem = f"the spacing {config['spacing']} and the patch {config['patch_size']} are of different axes"
    elif len(config["use_mask_for_norm"]) != len(config["normalization_schemes"]):
        problem = (
            f"use_mask_for_norm is {config['use_mask_for_norm']}, for {len(config['normalization_schemes'])} channels"
        )
    if problem:
        raise DataError(f"{planned.plans['plans_name']} of {planned.name}: {problem}. Plan the dataset again.")


def missing_parts(found: Survey) -> dict[int, int]:
    """Return how many cases each part still lacks, of those that it has not refused; complete parts are left out."""
    refused = set()
    tables = [found.folder.parent.glob(f"quarantine_{found.name}{suffix}.csv") for suffix in ("", "_part*of*")]
    for table in chain(*tables):
        with table.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            refused |= {line["item"].split(" ")[0] for line in csv.DictReader(lines)}
    lacking: dict[int, int] = {}
    parts = found.part[1]
    there = {path.name for path in found.folder.glob(f"*{ENDING}")}
    for index, case in enumerate(found.cases):
        if f"{case.name}{ENDING}" not in there and case.name not in refused:
            lacking[index % parts] = lacking.get(index % parts, 0) + 1
    return lacking


def _strays(folder: Path, wanted: set[str], dataset: ImportedDataset) -> list[str]:
    """Return cases of ours that are not wanted; a file that is not ours ends the run, as nobody may lose it."""
    strays = []
    files = sorted(path for path in folder.glob("*") if path.is_file())
    for path in files:
        name = path.name.removesuffix(MASK_ENDING).removesuffix(ENDING)
        if not path.name.endswith(ENDING):
            raise _not_ours(folder, path, len(files), dataset)
        if name in wanted or path.name.endswith(MASK_ENDING):
            continue
        if stored_signature(folder, name) is None:
            raise _not_ours(folder, path, len(files), dataset)
        strays.append(name)
    return strays


def _not_ours(folder: Path, path: Path, files: int, dataset: ImportedDataset) -> DataError:
    return DataError(
        f"{folder} holds {files} files, among them {path.name}, which nnunet-volf preprocess did not write. Nothing "
        f"was changed. If nnU-Net preprocessed a labelled dataset there, import the scans under another number than "
        f"{dataset.number}; if the file is of no use, move it away."
    )
