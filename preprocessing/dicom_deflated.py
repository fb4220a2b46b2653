"""DICOM files that are compressed as a whole, which pydicom unpacks at once, however large they become."""

from __future__ import annotations

import zlib
from pathlib import Path

from .refusals import Refused
from .sizes import ALWAYS_READ, check_size

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META = 132 + 12  # preamble, mark, and the element that tells the length of what stands before the data
_MOST_META = 4096
_CHUNK = 1 << 20


def check_unpacked(path: Path) -> None:
    """Refuse a file that unpacks to more than can be meant, or that ends before it is unpacked."""
    with path.open("rb") as file:
        start = file.read(_MOST_META)
        if _DEFLATED not in start:
            return
        file.seek(_META + int.from_bytes(start[_META - 4 : _META], "little"))
        unpacker, unpacked, stored = zlib.decompressobj(-zlib.MAX_WBITS), 0, path.stat().st_size
        chunk = file.read(_CHUNK)
        while chunk and not unpacker.eof:
            try:
                unpacked += len(unpacker.decompress(chunk, _CHUNK))
            except zlib.error as error:
                raise Refused("unreadable", "Its compressed data are damaged.", "Copy or export it again.") from error
            if unpacked > ALWAYS_READ:
                check_size(unpacked, stored)
            chunk = unpacker.unconsumed_tail or file.read(_CHUNK)
