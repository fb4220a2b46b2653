"""One run at a time for each part of a dataset's cases; parts of the same split run side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_volf.locks import only_one

# Parts that start at the same moment look at each other's old locks, each for an instant.
_PATIENCE = 2.0


@contextmanager
def only_part(folder: Path, part: tuple[int, int]) -> Iterator[None]:
    """Keep others from preprocessing the cases of a part meanwhile, by this split of the cases or another one.

    The locks are not beside the cases: nnU-Net tells the format of a folder from the endings of all files in it.

    Args:
        folder: of the preprocessed cases; the folder above, of the dataset, is there.
        part: number of the part, and of parts.
    """
    number, parts = part
    locks = folder.parent / ".locks"
    with only_one(locks / f"{folder.name}.{number}of{parts}", _work(folder, f"{number}/{parts}")):
        for lock in locks.glob(f"{folder.name}.*of*"):
            there = lock.name.removeprefix(f"{folder.name}.").replace("of", "/")
            if not there.endswith(f"/{parts}"):
                with only_one(lock, _work(folder, there), _PATIENCE):
                    pass
        yield


def _work(folder: Path, part: str) -> str:
    return f"Another preprocessing of {folder.parent.name}, {folder.name}, part {part},"
