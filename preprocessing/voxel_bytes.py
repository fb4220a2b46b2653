"""Where a file keeps its voxels, and reading them so that damage does not go unnoticed.

SimpleITK fills what a short NIfTI file lacks with zeros, and takes damaged MetaImage and NRRD streams for good
(2.5.7, tried 2026-11-21: 60 of 60 flipped bits in compressed .mha and 10 of 60 in .nrrd were not noticed). Read here,
the checksum that every compressed stream ends in is compared at no second reading.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from .refusals import Refused
from .sizes import check_size

CHUNK = 1 << 16
MOST_HEADER = 1 << 20  # bytes of a header of text; the gradients of a thousand diffusion volumes take a tenth of that
DEFLATE_RATIO = 1032  # zlib's own bound on how far a stream can shrink
_ZLIB_OR_GZIP = 47  # window bits: 32 detects either container, 15 is the largest window

_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_META_VECTORS = ("ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation")
_META_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_MOST_LINE = 500  # ITK's memory ends between 600 and 1000 bytes (tried with SimpleITK 2.5.7, 2026-11-22)
_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}


@dataclass(frozen=True)
class VoxelBytes:
    """The place and the kind of an image's voxels."""

    file: Path
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]  # fastest axis first, as all three formats state them
    start: int  # of the voxels, or of the compressed stream that holds them
    packed: bool = False
    skip: int = 0  # bytes at the start of the unpacked stream, which are not voxels
    slope: float = 1.0
    intercept: float = 0.0

    def read(self) -> NDArray[Any]:
        """Return the array, slowest axis first; raises Refused where bytes are missing or damaged."""
        expected = math.prod(self.sizes) * self.dtype.itemsize
        with self.file.open("rb") as file:
            file.seek(self.start)
            found = self.file.stat().st_size - self.start
            if found * (DEFLATE_RATIO if self.packed else 1) < expected:
                raise _short(expected, found)
            check_size(expected, found)
            data = _unpack(file, self.skip, expected) if self.packed else np.fromfile(file, np.uint8, expected)
        stored = data.view(self.dtype).reshape(self.sizes[::-1])
        return self._rescaled(stored.astype(self.dtype.newbyteorder("="), copy=False))

    def _rescaled(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Apply NIfTI's slope and intercept with the types that ITK uses."""
        if self.slope == 1 and self.intercept == 0:
            return stored
        values = np.empty(stored.shape, np.float64 if stored.dtype == np.float64 else np.float32)
        for source, target in zip(stored, values, strict=True):
            target[...] = source * np.float64(self.slope) + np.float64(self.intercept)
        return values


def _unpack(file: IO[bytes], skip: int, count: int) -> NDArray[np.uint8]:
    """Unpack count bytes of a zlib or gzip stream, which may have several members, and compare its checksums."""
    data = np.empty(count, np.uint8)
    position = -skip
    unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
    chunk = b""
    try:
        while not (unpacker.eof and position >= count):
            chunk = chunk or file.read(CHUNK)
            if not chunk:
                raise _short(count, max(0, position))
            if unpacker.eof:
                unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
            piece = unpacker.decompress(chunk)
            chunk = unpacker.unused_data
            wanted = piece[max(0, -position) : max(0, count - position)]
            first = max(0, position)
            data[first : first + len(wanted)] = np.frombuffer(wanted, np.uint8)
            position += len(piece)
    except zlib.error as error:
        raise Refused(
            "unreadable",
            f"The compressed voxels are damaged: unpacking stopped after {max(0, position)} of {count} bytes.",
            "Copy or download the file again.",
        ) from error
    return data


def _short(expected: int, found: int) -> Refused:
    return Refused(
        "truncated",
        f"The header promises {expected} bytes of voxels; {found} are there.",
        "Copy or download the file again, or remove it.",
    )


def nifti_header(path: Path) -> Any:
    """Read a NIfTI header of either version, with or without gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        # The longer of the two headers has 540 bytes.
        start = zlib.decompressobj(_ZLIB_OR_GZIP).decompress(file.read(CHUNK), 540) if packed else file.read(540)
    kinds: tuple[tuple[Any, int], ...] = ((nibabel.Nifti1Header, 348), (nibabel.Nifti2Header, 540))
    for kind, size in kinds:
        for order in ("little", "big"):
            if int.from_bytes(start[:4], order) == size and len(start) >= size:
                return kind(start[:size], check=False)
    raise Refused("unreadable", "It does not begin with a NIfTI header.", "Remove it, or rename it to what it is.")


def nifti_bytes(path: Path) -> VoxelBytes | None:
    """Find the voxels of a single-file NIfTI."""
    header = nifti_header(path)
    dims = [int(d) for d in header["dim"]]
    # ITK reads what is not finite as absent, and a slope of 0 as 1.
    slope, intercept = (float(header[key]) if np.isfinite(header[key]) else 0.0 for key in ("scl_slope", "scl_inter"))
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    offset = int(header["vox_offset"])
    return VoxelBytes(
        path,
        header.get_data_dtype(),
        tuple(dims[1 : 1 + dims[0]]),
        start=0 if packed else offset,
        packed=packed,
        skip=offset if packed else 0,
        slope=slope or 1.0,
        intercept=intercept,
    )


def meta_bytes(path: Path) -> VoxelBytes | None:
    """Find the voxels of a MetaImage; None where they are kept in a way that only SimpleITK reads."""
    fields, end = _header_fields(path, " =", last="ElementDataFile")
    missing = [key for key in ("NDims", "DimSize", "ElementType", "ElementDataFile") if not fields.get(key)]
    if missing:
        raise Refused(
            "unreadable", f"Its MetaImage header lacks {', '.join(missing)}.", "Remove the file or repair its header."
        )
    sizes = _whole_numbers(fields["DimSize"])
    _check_meta(fields, len(sizes))
    place = fields["ElementDataFile"]
    if place.startswith("LIST") or "%" in place or fields.get("BinaryData", "True").lower() != "true":
        return None
    kind = _META_TYPES.get(fields["ElementType"])
    if kind is None or "HeaderSize" in fields or fields.get("ElementNumberOfChannels", "1") != "1":
        return None
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    file, start = (path, end) if place.upper() == "LOCAL" else (path.parent / place, 0)
    return VoxelBytes(
        _present(file),
        np.dtype(kind).newbyteorder(">" if big else "<"),
        sizes,
        start,
        packed=fields.get("CompressedData", "False").lower() == "true",
    )


def _check_meta(fields: dict[str, str], axes: int) -> None:
    """Refuse a damaged header before ITK 5.4 sees it, which overruns its memory where numbers are too many or few."""
    counts = {"NDims": 1} | dict.fromkeys(_META_VECTORS, axes) | dict.fromkeys(_META_MATRICES, axes * axes)
    for key, count in counts.items():
        try:
            numbers = [float(number) for number in fields.get(key, "0 " * count).split()]
        except ValueError:
            numbers = []
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise Refused("unreadable", f"{key} in its header is not {count} finite numbers.", "Repair the header.")
    # A line without "=" is a key of several words here.
    odd = any(len(key.split()) != 1 or _CONTROL.search(key + value) for key, value in fields.items())
    if odd or fields["NDims"] != str(axes):
        raise Refused("unreadable", "Its header is damaged.", "Copy or download the file again, or remove it.")


def nrrd_bytes(path: Path) -> VoxelBytes | None:
    """Find the voxels of an NRRD; None where they are kept in a way that only SimpleITK reads."""
    _check_nrrd_lines(path)
    fields, end = _header_fields(path, ":", last="")
    place = fields.get("data file", fields.get("datafile"))
    encoding = fields.get("encoding", "")
    kind = next((code for code, names in _NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    if kind is None or encoding not in ("raw", "gzip", "gz") or "sizes" not in fields:
        return None
    odd = {"line skip", "lineskip", "byte skip", "byteskip"} & fields.keys()
    if odd or (place and (place.startswith("LIST") or "%" in place)):
        return None
    return VoxelBytes(
        _present(path.parent / place) if place else path,
        np.dtype(kind).newbyteorder(">" if fields.get("endian") == "big" else "<"),
        _whole_numbers(fields["sizes"]),
        start=0 if place else end,
        packed=encoding != "raw",
    )


def _check_nrrd_lines(path: Path) -> None:
    """Refuse long lines before ITK 5.4 sees them, which writes beyond its memory where it puts one into a message."""
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(CHUNK), b""):
            if line in (b"\n", b"\r\n") or file.tell() > MOST_HEADER:
                return
            free = line.startswith((b"#", b"content:")) or (b":=" in line and b":" not in line.partition(b":=")[0])
            if len(line) > _MOST_LINE and not free:
                raise Refused(
                    "unreadable", f"A line of its header has more than {_MOST_LINE} bytes.", "Repair its header."
                )


def _header_fields(path: Path, separator: str, last: str) -> tuple[dict[str, str], int]:
    """Read the lines of a text header up to the last one, and where the bytes after it begin."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while line := file.readline(CHUNK):
            if file.tell() > MOST_HEADER:
                raise Refused(
                    "unreadable", f"Its header has no end within {MOST_HEADER:,} bytes.", "Copy it again, or remove it."
                )
            text = line.decode("latin-1").strip()
            key, found, value = text.partition(separator.strip())
            fields[key.strip()] = value.strip().lstrip("=").strip()
            if text == last or (found and key.strip() == last):
                break
        return fields, file.tell()


def _present(file: Path) -> Path:
    if file.is_file():
        return file
    raise Refused(
        "unreadable", "Its voxels are kept in a second file, which is not there.", "Put the second file beside it."
    )


def _whole_numbers(text: str) -> tuple[int, ...]:
    numbers = text.split()
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise Refused("unreadable", "The sizes in its header are not whole numbers above 0.", "Remove the file.")
    return tuple(map(int, numbers))
