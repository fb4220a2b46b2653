"""The leakage guard: images of a dataset that will be tested on must not be pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_volf.datasets import RAW, find_dataset
from nnunet_volf.errors import DataError

from .content import content_hash
from .imported import read_manifest
from .journal import JOURNAL, Journal, only_import
from .parallel import run_parallel
from .progress import show
from .refusals import Refused
from .sources import find
from .volumes import read_volume
from .worklist import state


@dataclass
class Known:
    """The contents of protected images and where each occurs; and how many could not be read, so are not guarded."""

    contents: dict[str, str] = field(default_factory=dict)
    unread: int = 0


def known_images(datasets: Sequence[str], journal: Journal, workers: int) -> Known:
    """Read the images of protected datasets, those that have not been read before."""
    known = Known()
    for dataset in datasets:
        items = {item.path: item for item in find(str(find_dataset(dataset, RAW))).items}
        states = {path: state(item) for path, item in items.items()}
        to_do = [path for path in items if not journal.holds(f"known:{path}", states[path])]
        running = run_parallel(content_of, to_do, workers=workers)
        for done in show(running, len(to_do), f"Comparing with dataset {dataset}"):
            journal.write(f"known:{done.task}", states[done.task], {"content": done.result})
        for path, item in items.items():
            content = journal.read(f"known:{path}")["content"]
            part, slash, _ = item.name.partition("/")
            if content is None:
                known.unread += 1
            else:
                where = f"{part} of dataset {dataset}" if slash and part in _PARTS else f"dataset {dataset}"
                known.contents[content] = f"in {where}"
    return known


def look_for_leaks(folder: Path, target: str, workers: int) -> list[str]:
    """Return warnings where cases of an imported dataset occur in the one that its weights are for.

    An import for that target has left them out; one without a target could not.
    """
    try:
        find_dataset(target, RAW)
    except DataError:
        return [f"the images of dataset {target} are not in nnUNet_raw, so whether they occur here is not known"]
    with only_import(folder), Journal(folder / JOURNAL) as journal:
        known = known_images([target], journal, workers)
    cases = [[channel["content"] for channel in entry["channels"]] for entry in read_manifest(folder)]
    leaked = sum(any(content in known.contents for content in contents) for contents in cases)
    warnings = []
    if leaked:
        warnings.append(
            f"{leaked} of {len(cases)} cases occur in dataset {target}, and would be seen before it is tested on; "
            f"import again with --for {target} to leave them out"
        )
    if known.unread:
        warnings.append(
            f"{known.unread} images of dataset {target} cannot be read, so whether they occur here is not known"
        )
    return warnings


_PARTS = ("imagesTr", "imagesTs")


def content_of(path: str) -> str | None:
    """Return the hash of an image's voxels, or None where it cannot be read."""
    try:
        return content_hash(read_volume(Path(path)))
    except Refused:
        return None
