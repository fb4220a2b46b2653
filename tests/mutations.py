"""Damage and malice as pure functions: bytes and a generator in, other bytes out.

Where a format is known, the mutation knows it, too: what is compressed is changed inside and packed again, so that it
gets past the checksum to the parser behind it, and numbers in headers become those that overflow.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import torch

Mutation = Callable[[bytes, Random], bytes]

EXTREMES = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64)
WORDS = (
    *map(str, EXTREMES), "-5", "0.0", "1e-300", "1e308", "1e999", "nan", "inf", "-inf", "", " ", "\0", "\n", "a" * 5000,
    "9" * 5000, "true", "None", "../../../outside", "/etc/passwd", "C:\\x", "..\\..\\x", "~", "$HOME/x", "%s%n",
    "\u202e", "é\udcff", "con", "LIST", "a/b", "*", "|x", "file:///x", "[[[[", "{}", "1 2 3 4 5 6 7 8 9", "-0",
)  # fmt: skip

# Any bytes.


def flip_bits(content: bytes, random: Random) -> bytes:
    """Flip up to eight bits, mostly near the start, where headers are."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[_place(len(changed), random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut_off(content: bytes, random: Random) -> bytes:
    """Keep the first part."""
    return content[: random.randrange(len(content) + 1)]


def repeat(content: bytes, random: Random) -> bytes:
    """Have a stretch twice or many times."""
    start, end = _stretch(content, random)
    return content[:end] + content[start:end] * random.choice((1, 1, 50)) + content[end:]


def remove(content: bytes, random: Random) -> bytes:
    """Leave a stretch out."""
    start, end = _stretch(content, random)
    return content[:start] + content[end:]


def insert(content: bytes, random: Random) -> bytes:
    """Put a few bytes of anything in between."""
    place = _place(len(content) + 1, random)
    return content[:place] + random.randbytes(random.randint(1, 64)) + content[place:]


def overwrite(content: bytes, random: Random) -> bytes:
    """Write a number from the end of its range over a few bytes, in either order of bytes."""
    code, values = random.choice((
        ("B", (0, 1, 127, 128, 255)),
        ("H", (0, 1, 0x7FFF, 0x8000, 0xFFFF)),
        ("I", (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)),
        ("Q", (0, 1, 2**63 - 1, 2**63, 2**64 - 1)),
        ("f", (0.0, -1.0, 1e-38, 3e38, float("nan"), float("inf"))),
        ("d", (0.0, -1.0, 1e-300, 1e308, float("nan"), float("inf"))),
    ))  # fmt: skip
    written = struct.pack(random.choice("<>") + code, random.choice(values))
    place = _place(max(1, len(content) - len(written)), random)
    return content[:place] + written + content[place + len(written) :]


def swap(content: bytes, random: Random) -> bytes:
    """Turn the order of bytes of a stretch of numbers."""
    start, end = _stretch(content, random)
    width = random.choice((2, 4, 8))
    pieces = (content[place : place + width][::-1] for place in range(start, end, width))
    return content[:start] + b"".join(pieces) + content[end:]


_ANYWHERE: tuple[Mutation, ...] = (flip_bits, cut_off, repeat, remove, insert, overwrite, overwrite, swap)


def noise(content: bytes, random: Random) -> bytes:
    """Damage bytes of which nothing is known, in one to three ways."""
    for _ in range(random.choice((1, 1, 2, 3))):
        content = random.choice(_ANYWHERE)(content, random)
    return content


def _place(length: int, random: Random) -> int:
    return random.randrange(min(length, random.choice((64, 400, length))))


def _stretch(content: bytes, random: Random) -> tuple[int, int]:
    start = _place(len(content) + 1, random)
    return start, min(len(content), start + random.choice((1, 4, 16, 200)))


# Numbers at known places of a header.


def fields(places: Sequence[tuple[int, str]]) -> Mutation:
    """Return a mutation that sets one to three of these (offset, code) fields to the ends of their ranges."""

    def mutate(content: bytes, random: Random) -> bytes:
        changed = bytearray(content)
        for _ in range(random.choice((1, 1, 2, 3))):
            offset, code = random.choice(places)
            struct.pack_into(f"<{code}", changed, offset, _extreme(code, random))
        return bytes(changed)

    return mutate


def _extreme(code: str, random: Random) -> float:
    if code in "fd":
        return random.choice((0.0, -1.0, 1e-30, 1e-3, 1e6, 3e38, float("nan"), float("inf"), float("-inf")))
    low, high = (0, 2 ** (8 * struct.calcsize(code)) - 1)
    if code.islower():
        low, high = -(high // 2) - 1, high // 2
    return random.choice((low, high, 0, 1, -1 if low else 2, 3, 7, min(high, 512), min(high, 32767)))


# Text in lines: headers of NRRD and MetaImage, tables.


def lines(content: bytes, random: Random) -> bytes:
    """Change words, drop, repeat and exchange lines of the text that a file begins with."""
    head, blank, rest = content.partition(b"\n\n")
    if not blank:
        head, rest = content[:2000], content[2000:]
    rows = head.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        number = random.randrange(len(rows))
        action = random.randrange(6)
        if action < 3:
            words = re.split(rb"([ ,;=:()\t])", rows[number])
            words[random.randrange(len(words))] = random.choice(WORDS).encode("utf-8", "surrogateescape")
            rows[number] = b"".join(words)
        elif action == 3:
            rows.insert(number, random.choice(rows))
        elif action == 4 and len(rows) > 1:
            del rows[number]
        else:
            rows[number] = noise(rows[number], random)
        rows = rows or [b""]
    return b"\n".join(rows) + blank + rest


# JSON.


def json_text(content: bytes, random: Random) -> bytes:
    """Replace values by those of other types, drop and repeat entries; sometimes damage the text itself."""
    if random.randrange(6) == 0:
        return random.choice((noise, _deep, _encoded, _twice))(content, random)
    document = json.loads(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        document = _changed(document, random)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def json_lines(content: bytes, random: Random) -> bytes:
    """Change one line of a file that has a document in each."""
    rows = content.splitlines()
    number = random.randrange(len(rows))
    rows[number] = json_text(rows[number], random)
    return b"\n".join([*rows, b""])


def checkpoint(content: bytes, random: Random) -> bytes:
    """Change what a checkpoint says about its tensors, in any of its plain data, and save it anew."""
    stored = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(random.choice((1, 1, 2, 4))):
        stored = _changed(stored, random)
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    return buffer.getvalue()


def _changed(document: Any, random: Random) -> Any:
    inner = document
    while isinstance(inner, (dict, list)) and inner:
        key = random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
        if not isinstance(inner[key], (dict, list)) or not inner[key] or random.randrange(4) == 0:
            _change_entry(inner, key, random)
            return document
        inner = inner[key]
    return random.choice(_VALUES)


def _change_entry(container: Any, key: Any, random: Random) -> None:
    action = random.randrange(5)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[random.choice(WORDS)] = container.pop(key)
    elif action == 2 and isinstance(container, list):
        container *= random.choice((0, 2, 100))
    else:
        container[key] = random.choice(_VALUES)


_VALUES: tuple[Any, ...] = (
    None, True, [], {}, [[]], {"a": 1}, [None], *WORDS, *EXTREMES, -7, 0.5, float("nan"), float("inf"), 1e308,
    [1, 1, 1], ["x"], "os.system", "subprocess.Popen", "torch.hub.load",
)  # fmt: skip


def _deep(content: bytes, random: Random) -> bytes:
    depth = random.choice((500, 5000, 100_000))
    return random.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + content + b"}" * depth))


def _encoded(content: bytes, random: Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return random.choice((text.encode("utf-16"), b"\xff\xfe" + content, b"\xef\xbb\xbf" + content, content[::-1]))


def _twice(content: bytes, random: Random) -> bytes:
    return random.choice((content + content, content.replace(b"{", b'{"x": 1, "x": 2, ', 3), content + b"\0"))


# Containers, changed inside.


def inside_gzip(mutation: Mutation) -> Mutation:
    """Return a mutation of what a gzip file holds; sometimes of the gzip file itself."""

    def mutate(content: bytes, random: Random) -> bytes:
        if random.randrange(5) == 0:
            return noise(content, random)
        return gzip.compress(mutation(gzip.decompress(content), random), 1, mtime=0)

    return mutate


def inside_zip(mutations: Mapping[str, Mutation]) -> Mutation:
    """Return a mutation of the members of a zip archive, by the ends of their names, or of the archive around them."""

    def mutate(content: bytes, random: Random) -> bytes:
        if random.randrange(5) == 0:
            return noise(content, random)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
        chosen = [number for number, (info, _) in enumerate(members) if _mutation_of(info.filename, mutations)]
        number = random.choice(chosen or range(len(members)))
        info, inner = members[number]
        members[number] = info, (_mutation_of(info.filename, mutations) or noise)(inner, random)
        return _zipped(members, random)

    return mutate


def _mutation_of(name: str, mutations: Mapping[str, Mutation]) -> Mutation | None:
    return next((mutation for end, mutation in mutations.items() if name.endswith(end)), None)


def _zipped(members: list[tuple[zipfile.ZipInfo, bytes]], random: Random) -> bytes:
    buffer = io.BytesIO()
    action = random.randrange(12)
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, (info, inner) in enumerate(members):
            name = random.choice(WORDS).replace("\0", "") or "x" if action == 0 and number == 0 else info.filename
            packed = zipfile.ZIP_DEFLATED if action == 1 else zipfile.ZIP_STORED
            if not (action == 2 and number == len(members) - 1):
                archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), inner, packed)
    return buffer.getvalue()


def pickle_text(content: bytes, random: Random) -> bytes:
    """Change names, numbers and instructions in a pickle."""
    action = random.randrange(4)
    if action == 0:
        names = (b"torch._utils", b"_rebuild_tensor_v2", b"collections", b"OrderedDict", b"FloatStorage", b"storage")
        other = (b"os\nsystem", b"posix", b"builtins", b"eval", b"X", b"LongStorage", b"", b"numpy.core.multiarray")
        return content.replace(random.choice(names), random.choice(other), random.choice((1, 1000)))
    if action == 1:  # whole numbers of one and two bytes and of four: sizes, strides, offsets, counts
        places = [match.start() for match in re.finditer(rb"[KMJ]", content)]
        changed = bytearray(content)
        for place in random.sample(places, min(len(places), random.randint(1, 3))):
            width = {75: 1, 77: 2, 74: 4}[changed[place]]
            changed[place + 1 : place + 1 + width] = random.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * width
        return bytes(changed)
    return noise(content, random)


def packed_again(content: bytes, start: int, mutation: Mutation, random: Random) -> bytes:
    """Change what a zlib stream at a place holds, and pack it again."""
    return content[:start] + zlib.compress(mutation(zlib.decompress(content[start:]), random), 1)
