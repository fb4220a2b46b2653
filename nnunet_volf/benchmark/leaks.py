"""Whether test cases were seen before they are tested on: found by what images show, whatever they are called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from nnunet_volf.benchmark.experiment import Cases
from nnunet_volf.errors import BenchmarkError

# The hash of each channel of a case; None where an image cannot be read.
Contents = Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True)
class Seen:
    """The images that weights were pretrained on, as far as they are known."""

    weights: str  # the arms that start from them, and the name of the file
    contents: Collection[str] | None  # None: not known
    about: str  # how they are known, or why not, as a sentence


@dataclass(frozen=True)
class Checked:
    """The cases that remain, and what the check has found, in sentences."""

    cases: Mapping[int, Cases]
    said: tuple[str, ...]


def without_leaks(cases: Mapping[int, Cases], contents: Contents | None, seen: Collection[Seen]) -> Checked:
    """Leave out the test cases that occur in what any of the weights has seen, or among the fold's other cases."""
    if contents is None:
        return Checked(cases, ("Not checked: the images of the dataset are not in nnUNet_raw.",))
    said = [source.about for source in seen]
    known = {content for source in seen for content in source.contents or ()}
    kept = {}
    for fold, parts in cases.items():
        others = {contents[case] for case in (*parts.validation, *parts.pool) if _whole(contents[case])}
        pretrained = [case for case in parts.test if known & {c for c in contents[case] if c is not None}]
        twice = [case for case in parts.test if case not in pretrained and contents[case] in others]
        said += _leaks(fold, parts, pretrained, "were pretrained on") + _leaks(fold, parts, twice, "are training cases")
        test = tuple(case for case in parts.test if case not in {*pretrained, *twice})
        if not test:
            raise BenchmarkError(
                f"None of the {len(parts.test)} test cases of fold {fold} can be used: {len(pretrained)} of them were "
                f"pretrained on, and {len(twice)} occur among the training cases under another name. Pretrain without "
                "them ('nnunet-volf pretrain FOLDER --for DATASET' leaves them out), or choose another fold."
            )
        kept[fold] = replace(parts, test=test)
    unread = sum(None in hashes for hashes in contents.values())
    if unread:
        said.append(f"{unread} cases have images that could not be read, so they are not checked.")
    if len(said) == len(seen):
        said.append("No test case occurs in what was pretrained on or among the training cases.")
    return Checked(kept, tuple(said))


def _leaks(fold: int, cases: Cases, leaked: list[str], what: str) -> list[str]:
    if not leaked:
        return []
    named = ", ".join(leaked[:5]) + (f" and {len(leaked) - 5} others" if len(leaked) > 5 else "")
    return [f"{len(leaked)} of {len(cases.test)} test cases of fold {fold} {what} and are left out: {named}."]


def _whole(hashes: tuple[str | None, ...]) -> bool:
    return None not in hashes
