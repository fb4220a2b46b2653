"""What was left out, by kind and without any path: how often, of which formats, why, and what to do."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .kinds import EXPECTED_KINDS, KIND_TITLES
from .refusals import Quarantined
from .volumes import FORMATS, ending_of

_MOST_REASONS = 3
_LONGEST = 240  # characters of a reason
_DICOM = (".dcm", ".ima", ".dicom")
# An ending can be part of a name ("scan.smith"), so only endings that everybody uses are shown.
_COMMON = frozenset(
    f".{ending}"
    for ending in (
        *("bak", "bz2", "db", "gz", "ini", "lnk", "log", "rar", "tar", "tmp", "zip"),
        *("csv", "doc", "docx", "htm", "html", "md", "pdf", "ppt", "pptx", "rtf", "txt", "tsv", "xls", "xlsx"),
        *("bval", "bvec", "json", "m", "mat", "mgh", "npy", "npz", "pkl", "py", "raw", "sh", "xml", "yaml", "yml"),
        *("gif", "jpeg", "jpg", "png", "ps", "svg", "tif", "tiff", "url"),
    )
)
_NO_ENDING = "no ending"
OTHER_ENDINGS = "other endings"


@dataclass(frozen=True)
class Group:
    """All that was left out for the same kind of reason."""

    kind: str
    title: str
    expected: bool  # no fault of the archive
    count: int
    endings: tuple[tuple[str, int], ...]
    reasons: tuple[str, ...]  # the most frequent ones
    more_reasons: int  # how many others there are
    advice: tuple[str, ...]


def group_by_kind(quarantined: Iterable[Quarantined]) -> list[Group]:
    """Return one group a kind: faults before what was to be expected, the largest first."""
    lines: dict[str, list[Quarantined]] = defaultdict(list)
    for line in quarantined:
        lines[line.kind].append(line)
    groups = [_group(kind, members) for kind, members in lines.items()]
    return sorted(groups, key=lambda group: (group.expected, -group.count, group.kind))


def common_endings(ignored: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return how many files of each ending were no images, with uncommon endings summed up."""
    counts: Counter[str] = Counter()
    for ending, count in ignored.items():
        known = ending in _COMMON or ending in FORMATS or ending == _NO_ENDING
        counts[ending if known else OTHER_ENDINGS] += count
    return _ordered(counts)


def _group(kind: str, lines: Sequence[Quarantined]) -> Group:
    reasons = _ordered(Counter(_without_item(line) for line in lines))
    advice = _ordered(Counter(line.advice for line in lines))
    return Group(
        kind,
        KIND_TITLES.get(kind, kind),
        kind in EXPECTED_KINDS,
        len(lines),
        tuple(_ordered(Counter(_ending(line.item) for line in lines))),
        tuple(_shortened(reason) for reason, _ in reasons[:_MOST_REASONS]),
        max(0, len(reasons) - _MOST_REASONS),
        tuple(_shortened(text) for text, _ in advice[:_MOST_REASONS]),
    )


def _ending(item: str) -> str:
    ending = ending_of(item)
    if ending:
        return ending
    # A DICOM series is named by its folder with its number in brackets.
    return "DICOM" if item.endswith(")") or item.lower().endswith(_DICOM) else "other"


def _without_item(line: Quarantined) -> str:
    """Return the reason without what a library's message may have brought in: a name, or text of a header."""
    reason = line.reason if line.kind != "error" else f"{line.reason.split(':')[0].rstrip('.')}."
    for text in (line.item, re.split(r"[/\\]", line.item)[-1]):
        reason = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "the file", reason) if text else reason
    return reason


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
