"""Words that are planted where a person could be named, and the search for them in whatever a program writes.

A word tells where it was planted: ``zqxmark00100010`` is DICOM's element (0010,0010), ``zqxmarknrrdkey1`` a key of an
NRRD. The search goes through everything a file may hide text in: compressed members, pictures in pages, UTF-16.
"""

from __future__ import annotations

import base64
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import blosc2

# So long that no picture in base64 holds one by chance.
WORD = re.compile(rb"(?i)zqx(?:mark|path)[0-9a-z]{8}")
# What cannot be a word: DICOM's dates, times, numbers, ages and UIDs.
DATE, TIME, NUMBER, UID = "19370401", "073717.737373", "1777333177", "2.25.7773331777333177733"
_NUMBERS = tuple(value.encode() for value in (DATE, TIME, NUMBER, UID))
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")


def word(place: str) -> str:
    """Return the word for a place in a header, of which eight letters and digits are kept."""
    return f"Zqxmark{place[:8]:0<8}"


def word_of_path(place: str) -> str:
    """Return the word for a part of a path, which may stand where paths do."""
    return f"Zqxpath{place[:8]:0<8}"


def of_header(found: set[str]) -> set[str]:
    return {one for one in found if not one.startswith("zqxpath")}


def in_bytes(content: bytes) -> set[str]:
    """Return what was planted and is found in these bytes, also as UTF-16."""
    found = set()
    for form in (content, content.replace(b"\0", b"")):
        found |= {hit.decode().lower() for hit in WORD.findall(form)}
        found |= {number.decode() for number in _NUMBERS if number in form}
    return found


def in_file(path: Path) -> set[str]:
    return set().union(*(in_bytes(content) for content in _contents(path)))


def in_folder(folder: Path) -> dict[str, set[str]]:
    """Return what is found in which file, and in the names of files, which count as content of their folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        here = in_bytes(name.encode("utf-8", "surrogateescape")) | (in_file(path) if path.is_file() else set())
        if here:
            found[name] = here
    return found


def _contents(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield content
    if path.suffix == ".gz":
        yield zlib.decompressobj(wbits=31).decompress(content)  # also of a file that was cut off
    elif path.suffix == ".b2nd":
        case = blosc2.open(urlpath=str(path), mode="r")
        yield repr((case.schunk.meta[:], case.schunk.vlmeta[:])).encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                yield member.encode()
                yield archive.read(member)
    for block in _BASE64.findall(content) if path.suffix in (".html", ".jsonl", ".json") else ():
        yield from _of_picture(base64.b64decode(block + b"=" * (-len(block) % 4)))
    if path.suffix == ".png":
        yield from _of_picture(content)


def _of_picture(content: bytes) -> Iterator[bytes]:
    """A PNG keeps text plainly or deflated after its keyword."""
    yield content
    for start in (
        hit.end() for hit in re.finditer(rb"zTXt[^\x00]{1,79}\x00\x00|iTXt[^\x00]{1,79}\x00\x01\x00\x00\x00", content)
    ):
        yield zlib.decompressobj().decompress(content[start:])
