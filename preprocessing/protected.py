"""The leakage guard: images of a dataset that will be tested on must not be pretrained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nnunet_volf.datasets import RAW, find_dataset

from .content import content_hash
from .journal import Journal
from .parallel import run_parallel
from .progress import show
from .refusals import Refused
from .request import Request
from .sources import find
from .volumes import read_volume
from .worklist import state


@dataclass
class Known:
    """The contents of protected images and where each occurs; and how many could not be read, so are not guarded."""

    contents: dict[str, str] = field(default_factory=dict)
    unread: int = 0


def known_images(request: Request, journal: Journal) -> Known:
    """Read the images of all protected datasets that have not been read before."""
    known = Known()
    for dataset in request.protected if not request.keep_known else ():
        items = {item.path: item for item in find(str(find_dataset(dataset, RAW))).items}
        states = {path: state(item) for path, item in items.items()}
        to_do = [path for path in items if not journal.holds(f"known:{path}", states[path])]
        running = run_parallel(content_of, to_do, workers=request.workers)
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


_PARTS = ("imagesTr", "imagesTs")


def content_of(path: str) -> str | None:
    """Return the hash of an image's voxels, or None where it cannot be read."""
    try:
        return content_hash(read_volume(Path(path)))
    except Refused:
        return None
