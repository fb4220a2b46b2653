"""Which channel an image is, and of which subject: by a pattern on its name, or as a table says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nnunet_volf.documents import read_text
from nnunet_volf.errors import DataError, SettingsError

CHANNELS = "import/channels.txt"  # in a raw dataset: the rules that it was imported with
DEFAULT_CHANNEL = "image"  # nnU-Net then normalises each volume by its own mean and spread


@dataclass(frozen=True)
class ChannelRule:
    """A channel's name, and the pattern of the files that belong to it."""

    name: str
    pattern: str | None = None


@dataclass(frozen=True)
class Place:
    """Where an image belongs."""

    subject: str
    channel: int


def parse_channels(arguments: Sequence[str]) -> tuple[ChannelRule, ...]:
    """Turn ``["T1=*_t1.nii.gz", "T2=*_t2.nii.gz"]`` or ``["CT"]`` into rules."""
    rules = []
    for argument in arguments:
        name, sign, pattern = argument.partition("=")
        if not name or (sign and not pattern):
            raise SettingsError(f"{argument!r} is not of the form NAME or NAME=PATTERN, for example T1=*_t1.nii.gz.")
        rules.append(ChannelRule(name, pattern or None))
    if len({rule.name.lower() for rule in rules}) < len(rules):
        raise SettingsError(f"Channels {', '.join(rule.name for rule in rules)}: each name may occur once.")
    if len(rules) > 1 and any(rule.pattern is None for rule in rules) and any(rule.pattern for rule in rules):
        raise SettingsError(f"{' '.join(arguments)}: with several channels, all have a pattern or none has.")
    return tuple(rules)


def place(
    rules: Sequence[ChannelRule], name: str, subject: str | None = None, channel: str | None = None
) -> Place | None:
    """Return where an image of this name belongs, or None if it is of no channel.

    What a table says about subject and channel comes first. A pattern without a slash is matched against the file's
    name, and the subject is its folder with what the wildcards stand for; one with slashes is matched against the end
    of the path, and the subject is what its wildcards stand for, with the folders before. Case does not matter.
    """
    names = [rule.name.lower() for rule in rules]
    if channel is not None and channel.lower() in names:
        return Place(subject or name, names.index(channel.lower())) if len(rules) > 1 else Place(name, 0)
    if rules[0].pattern is None:
        # One channel: each image is a subject. Several, or one that a table tells from others: only what it assigns.
        return Place(name, 0) if len(rules) == 1 and channel is None else None
    for number, rule in enumerate(rules):
        found = _match(rule.pattern or "", name)
        if found is not None:
            return Place(subject or found, number) if len(rules) > 1 else Place(name, 0)
    return None


def describe(rules: Sequence[ChannelRule]) -> str:
    """Return the rules as they would be typed."""
    return shlex.join(rule.name if rule.pattern is None else f"{rule.name}={rule.pattern}" for rule in rules)


def kept_channels(folder: Path) -> list[str]:
    """Return the channels that a raw dataset was imported with, as arguments; none where nothing was imported."""
    path = folder / CHANNELS
    there = path.is_file() and (folder / "dataset.json").is_file()
    try:
        return shlex.split(read_text(path)) if there else []
    except ValueError as error:
        raise DataError(
            f"{path} is damaged ({error}). It holds what was given to --channels: write that into it again."
        ) from error


def _match(pattern: str, name: str) -> str | None:
    """Return what the wildcards of a pattern stand for, after the folders before it; None if it does not match."""
    parts = PurePosixPath(name).parts
    depth = len(PurePosixPath(pattern).parts)
    if depth > len(parts):
        return None
    expression = re.escape(pattern).replace(r"\*", "([^/]*)").replace(r"\?", "([^/])")
    found = re.fullmatch(expression, "/".join(parts[-depth:]), flags=re.IGNORECASE)
    return None if found is None else "/".join([*parts[:-depth], *found.groups()])
