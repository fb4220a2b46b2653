"""From images to cases: channels of a subject put together, duplicates and protected images left out, neutral names.

Pure functions over what the workers found; the order in which they found it does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from .refusals import Quarantined

Image = Mapping[str, Any]  # as intake.py describes one

# Two grids are one when spacings agree to a thousandth, directions to a thousandth, and origins to a tenth of a voxel:
# headers of one scanner differ by rounding, and half a voxel would already blur a border.
SAME_SPACING, _DIRECTION, _ORIGIN = 1e-3, 1e-3, 0.1


@dataclass(frozen=True)
class Subject:
    """One image for each channel."""

    name: str  # of the first channel's image, as the user knows it
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Case:
    """A subject with the name it has in the dataset."""

    name: str
    content: str
    images: tuple[Image, ...]


def group(images: Iterable[Image], channels: Sequence[str]) -> tuple[list[Subject], list[Quarantined]]:
    """Put the images of each subject together; an image too many, or a channel missing, is said."""
    by_subject: dict[str, dict[int, Image]] = {}
    quarantined = []
    for image in sorted(images, key=lambda image: str(image["name"])):
        taken = by_subject.setdefault(image["subject"], {})
        if image["channel"] not in taken:
            taken[image["channel"]] = image
        elif _content(image) != _content(taken[image["channel"]]):
            reason = (
                f"Its subject has another image of channel {channels[image['channel']]}, which comes first by name."
            )
            advice = "Use a narrower pattern (--channels NAME=PATTERN), or name subjects and channels in a table."
            quarantined.append(Quarantined(image["name"], "compare", "ambiguous", reason, advice))
        else:
            quarantined.append(_duplicate(image["name"]))
    subjects = []
    for parts in by_subject.values():
        missing = [name for number, name in enumerate(channels) if number not in parts]
        first = parts[min(parts)]
        if missing:
            reason = f"Its subject has {_names(channels, parts)} but no {', '.join(missing)}."
            advice = "Add the missing image, correct the pattern of that channel, or import fewer channels."
            quarantined.append(Quarantined(first["name"], "compare", "incomplete", reason, advice))
        else:
            subjects.append(Subject(first["name"], tuple(parts[number] for number in sorted(parts))))
    return sorted(subjects, key=lambda subject: subject.name), quarantined


def leave_out(subjects: Sequence[Subject], known: Mapping[str, str]) -> tuple[list[Subject], list[Quarantined]]:
    """Leave out subjects of which an image occurs in a protected dataset; `known` maps contents to where they occur."""
    kept, quarantined = [], []
    for subject in subjects:
        where = next((known[_content(image)] for image in subject.images if _content(image) in known), None)
        if where is None:
            kept.append(subject)
        else:
            reason = f"The same voxels are {where}."
            advice = "Nothing, if that dataset will be tested on; --keep-known pretrains on it all the same."
            quarantined.append(Quarantined(subject.name, "compare", "known", reason, advice))
    return kept, quarantined


def on_one_grid(images: Sequence[Image]) -> bool:
    """Say whether the channels of a subject lie on the same voxels."""
    first = images[0]
    spacing = np.array(first["facts"]["spacing"])
    for other in images[1:]:
        same = (
            other["facts"]["shape"] == first["facts"]["shape"]
            and np.allclose(other["facts"]["spacing"], spacing, rtol=SAME_SPACING)
            and np.allclose(other["grid"][3:], first["grid"][3:], atol=_DIRECTION)
            and np.allclose(other["grid"][:3], first["grid"][:3], atol=_ORIGIN * float(spacing.min()))
        )
        if not same:
            return False
    return True


def different_grids(subject: Subject, channels: Sequence[str]) -> Quarantined:
    """Say how the grids of a subject's channels differ."""
    grids = "; ".join(
        f"{channel} {tuple(image['facts']['shape'])} voxels of {_millimetres(image['facts']['spacing'])}"
        for channel, image in zip(channels, subject.images, strict=True)
    )
    reason = f"Its channels lie on different grids: {grids}, or elsewhere in space."
    advice = "Import with --grids resample, which brings them onto the first channel's grid."
    return Quarantined(subject.name, "compare", "grids", reason, advice)


def name_cases(subjects: Iterable[Subject]) -> tuple[list[Case], list[Quarantined]]:
    """Name each subject after its voxels, which no rename or move of files changes, and drop what occurs twice."""
    cases: dict[str, Case] = {}
    quarantined = []
    for subject in subjects:
        contents = [_content(image) for image in subject.images]
        content = contents[0] if len(contents) == 1 else _combined(contents)
        name = f"case_{content[:12]}"
        if name in cases and cases[name].content != content:
            name = f"case_{content}"
        if name in cases:
            quarantined.append(_duplicate(subject.name, of=name))
        else:
            cases[name] = Case(name, content, subject.images)
    return [cases[name] for name in sorted(cases)], quarantined


def _content(image: Image) -> str:
    return str(image["facts"]["content"])


def _combined(contents: Sequence[str]) -> str:
    return blake2b("\n".join(contents).encode("ascii"), digest_size=16).hexdigest()


def _duplicate(item: str, of: str | None = None) -> Quarantined:
    reason = f"It has the same voxels as {of}." if of else "It has the same voxels as another image of its subject."
    return Quarantined(item, "compare", "duplicate", reason, "Nothing: the first by name was taken.")


def _names(channels: Sequence[str], parts: Collection[int]) -> str:
    return ", ".join(channels[number] for number in sorted(parts))


def _millimetres(spacing: Sequence[float]) -> str:
    return " x ".join(f"{side:g}" for side in spacing) + " mm"
