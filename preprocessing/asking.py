"""From the arguments of a command to a request, with what the user left open filled in."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from nnunet_volf import machine
from nnunet_volf.datasets import RAW, all_dataset_names, dataset_number, find_dataset, nnunet_folder
from nnunet_volf.documents import read_text
from nnunet_volf.errors import DataError, SettingsError

from .budget import memory_to_use
from .channels import DEFAULT_CHANNEL, kept_channels, parse_channels
from .dicom_series import DicomPolicy
from .imported import channels_of
from .request import SOURCES, Policy, Request
from .sources import Found

FIRST_NUMBER = 501  # nnU-Net's public datasets have small numbers


def import_request(args: argparse.Namespace, found: Found) -> Request:
    """Turn the arguments of `import` or `pretrain` into a request."""
    if not 0 < args.most_refused <= 1:
        raise SettingsError(f"--most-refused is {args.most_refused:g}; it is a share, above 0 and at most 1.")
    protected = dict.fromkeys([*args.exclude, *([args.target] if args.target else [])])
    for dataset in protected:
        find_dataset(dataset, RAW)
    dataset = choose_dataset(args.source, args.d, args.n)
    channels = args.channels or kept_channels(nnunet_folder(RAW) / dataset) or _channels(args.target, found)
    return Request(
        source=args.source,
        dataset=dataset,
        policy=Policy(parse_channels(channels), args.time, DicomPolicy(args.geometry, args.least_slices, args.derived)),
        grids=args.grids,
        protected=tuple(protected),
        keep_known=args.keep_known,
        most_refused=args.most_refused,
        retry=args.retry,
        workers=machine.worker_processes(args.np).value,
        memory=memory_to_use(),
    )


def _channels(target: str | None, found: Found) -> list[str]:
    """Return the channels of the source if it is an nnU-Net dataset, or the target's if it has one, or the default."""
    if found.channel_names:
        return list(found.channel_names)
    if target is None:
        return [DEFAULT_CHANNEL]
    names = list(channels_of(find_dataset(target, RAW)))
    if len(names) > 1:
        patterns = " ".join(f"'{name}=*_{number:04d}.nii.gz'" for number, name in enumerate(names))
        raise SettingsError(
            f"Dataset {target} has {len(names)} channels, so the name of each image of the archive has to tell its "
            f"channel. Say how, for example --channels {patterns}"
        )
    return names


def choose_dataset(source: str, number: int | None, name: str | None) -> str:
    """Return the name of the dataset to import into: the one asked for, the one this source is in, or a new one."""
    raw = nnunet_folder(RAW)
    taken = {dataset_number(folder): folder for folder in all_dataset_names()}
    if number is None:
        before = [folder for folder in taken.values() if str(_absolute(source)) in _sources(raw / folder)]
        if before:
            return sorted(before)[0]
        number = next(n for n in range(FIRST_NUMBER, 1000) if n not in taken)
    if not 0 < number < 1000:
        raise SettingsError(f"-d is {number}; nnU-Net's dataset numbers go from 1 to 999.")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise SettingsError(f"-n is {name!r}; a dataset's name has letters, digits, '-' and '_' only.")
    wanted = f"Dataset{number:03d}_{name or 'Archive'}"
    there = taken.get(number)
    if there is not None and not (raw / there).is_dir():
        raise DataError(
            f"Number {number} is taken by {there}, which nnUNet_preprocessed or nnUNet_results holds. Choose another "
            "number (-d), or remove it there."
        )
    if there is not None and name is not None and there != wanted:
        raise DataError(
            f"Number {number} is taken by {there}. Choose another number (-d), or leave -n out to add to it."
        )
    return there or wanted


def _sources(folder: Path) -> list[str]:
    path = folder / SOURCES
    return read_text(path).splitlines() if path.is_file() else []


def _absolute(source: str) -> Path:
    return Path(source).expanduser().absolute()
