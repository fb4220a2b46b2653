"""Ways in which the file of a preprocessed case gets damaged, done to real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nnunet_volf.preprocessing.storage import write_case


def write_sound_case(
    folder: Path, name: str, seed: int = 0, shape: tuple[int, ...] = (2, 26, 30, 28), spoilt: float = 0.0
) -> Path:
    """Write a case as our preprocessing does, in several chunks; `spoilt` voxels are everywhere."""
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    if spoilt:
        image[0, ::8, ::8, ::8] = spoilt
    tissue = np.argwhere(image[0] > 1).astype(np.uint16)[:200]
    write_case(folder, name, image, (16, 16, 16), {"content": f"of {name}"}, tissue)
    return folder / f"{name}.b2nd"


def cut_to(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


def zeroed(start: float, length: int = 4096) -> Callable[[bytes], bytes]:
    """A page that never reached the disk."""

    def damage(content: bytes) -> bytes:
        at = int(len(content) * start) // length * length
        return content[:at] + bytes(len(content[at : at + length])) + content[at + length :]

    return damage


def hole(start: float, end: float) -> Callable[[bytes], bytes]:
    """What a download leaves that was put together of parts: all crops of the case meet it."""

    def damage(content: bytes) -> bytes:
        first, last = int(len(content) * start), int(len(content) * end)
        return content[:first] + bytes(last - first) + content[last:]

    return damage


def flipped(at: int, length: int) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        at_start = at % len(content)
        piece = bytes(byte ^ 0xFF for byte in content[at_start : at_start + length])
        return content[:at_start] + piece + content[at_start + length :]

    return damage


def _side(voxels: int) -> bytes:
    """A side of a volume, as headers have it."""
    return voxels.to_bytes(8, "big")


# All of these are noticed; what is not is in docs/reliability.md.
NOTICED: dict[str, Callable[[bytes], bytes]] = {
    "empty": cut_to(0),
    "cut to a tenth": cut_to(0.1),
    "cut by a thousandth": cut_to(0.999),
    "another file": lambda content: np.random.default_rng(0).bytes(len(content)),
    "all zeros": lambda content: bytes(len(content)),
    "first page zeroed": zeroed(0),
    "a page in the middle zeroed": zeroed(0.5),
    "most of it zeroed": hole(0.1, 0.9),
    "last page zeroed": lambda content: content[:-4096] + bytes(4096),
    "size in the header flipped": flipped(16, 4),
    "header flipped": flipped(100, 4),
    "a side in the header a hundred times as long": lambda content: content.replace(_side(26), _side(2600), 1),
    "notes flipped": lambda content: content.replace(b"content", bytes(byte ^ 0xFF for byte in b"content"), 1),
    "trailer flipped": flipped(-30, 4),
}


def damage(path: Path, how: str) -> None:
    path.write_bytes(NOTICED[how](path.read_bytes()))
