"""The size that a compressed frame itself states, which its decoder believes whatever the DICOM header says."""

from __future__ import annotations

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
# The start of a frame, of JPEG's ways of coding and of JPEG-LS; among them are two tables and a reserved code.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def stated_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a frame of JPEG, JPEG-LS or JPEG 2000; None where it is none of them or damaged."""
    if frame.startswith(_JPEG_2000):
        ends, starts = (_pair(frame, place, 4) for place in (8, 16))  # of the image on its reference grid
        return (ends[1] - starts[1], ends[0] - starts[0]) if len(frame) > 24 else None
    return _jpeg_size(frame) if frame.startswith(_JPEG) else None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in _FRAMES:
            return _pair(frame, place + 5, 2)
        if marker == 0xFF:  # a fill byte
            place += 1
        else:
            place += 2 if marker in _NO_LENGTH else 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None


def _pair(frame: bytes, place: int, width: int) -> tuple[int, int]:
    first, second = frame[place : place + width], frame[place + width : place + 2 * width]
    return int.from_bytes(first, "big"), int.from_bytes(second, "big")
