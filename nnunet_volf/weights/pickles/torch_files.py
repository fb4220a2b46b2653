"""The two formats that ``torch.save`` has written: zip archives since torch 1.6, one stream of pickles before.

Both hold a pickle and the memory of its tensors, which the pickle refers to by keys. Every size is compared with what
is there before memory is taken for it, and the checksums of an archive are compared as it is read.
"""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from nnunet_volf.weights.pickles.known import StorageType
from nnunet_volf.weights.pickles.machine import Machine

# The first two pickles of the old format.
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

PICKLE = "data.pkl"


def read_archive(path: Path) -> tuple[Any, Machine]:
    """Return what a zip archive of torch's describes."""
    with zipfile.ZipFile(path) as archive:
        (pickle,) = (name for name in archive.namelist() if name.split("/")[-1] == PICKLE)
        top = pickle.removesuffix(PICKLE)
        if f"{top}byteorder" in archive.namelist():
            _check_byte_order(archive.read(f"{top}byteorder") == b"little")
        known: dict[str, Tensor] = {}

        def storage(identifier: Any) -> Tensor:
            kind, key, count = _identifier(identifier)
            if key not in known:
                known[key] = _record(archive, f"{top}data/{key}")
            return _as_type(known[key], kind, count)

        machine = Machine(storage)
        with archive.open(pickle) as file:
            return machine.load(file), machine


def read_stream(path: Path) -> tuple[Any, Machine]:
    """Return what a file from before torch 1.6 describes: pickles, then the memory of the tensors in order."""
    size = path.stat().st_size
    known: dict[str, Tensor] = {}
    element_sizes: dict[str, int] = {}

    def storage(identifier: Any) -> Any:
        if isinstance(identifier, tuple) and identifier[0] == "module":  # a class and its source, of a whole network
            return identifier[1]
        kind, key, count = _identifier(identifier)
        if key not in known:
            known[key] = _memory(count * kind.dtype.itemsize, size)
            element_sizes[key] = kind.dtype.itemsize
        whole = _as_type(known[key], kind, count)
        view = identifier[5] if len(identifier) > 5 else None
        return whole if view is None else whole[view[1] : view[1] + view[2]]

    machine = Machine(storage)
    with path.open("rb") as file:
        if (machine.load(file), machine.load(file)) != (MAGIC, PROTOCOL):
            raise ValueError("an unknown version")
        system = machine.load(file)
        _check_byte_order(bool(system["little_endian"]))
        content = machine.load(file)
        keys = machine.load(file)
        if sorted(keys) != sorted(known):
            raise ValueError(f"the memory of {len(keys)} tensors in the place of that of {len(known)}")
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            if count * element_sizes[key] != known[key].numel():
                raise ValueError(f"{count} values in the place of {known[key].numel() // element_sizes[key]}")
            _fill(known[key], file)
    return content, machine


def _identifier(identifier: Any) -> tuple[StorageType, str, int]:
    """Return the type, the key and the number of values that a piece of memory is referred to by."""
    name, kind, key, _location, count, *_ = identifier
    if name != "storage" or not isinstance(kind, StorageType) or not isinstance(key, str) or count < 0:
        raise ValueError(f"{name!r} in the place of memory")
    return kind, key, int(count)


def _record(archive: zipfile.ZipFile, name: str) -> Tensor:
    """Return the bytes of a record; its checksum is compared at its end."""
    memory = torch.empty(archive.getinfo(name).file_size, dtype=torch.uint8)
    with archive.open(name) as file:
        _fill(memory, file)
    return memory


def _memory(needed: int, available: int) -> Tensor:
    if needed > available:
        raise EOFError(f"{needed} bytes of memory in a file of {available}")
    return torch.empty(needed, dtype=torch.uint8)


def _fill(memory: Tensor, file: IO[bytes]) -> None:
    values: Any = memory.numpy()
    view = memoryview(values)
    filled = 0
    while filled < len(view):
        read: Callable[[memoryview], int] = file.readinto  # type: ignore[attr-defined]
        count = read(view[filled:])
        if not count:
            raise EOFError(f"{filled} of {len(view)} bytes of a tensor")
        filled += count


def _as_type(memory: Tensor, kind: StorageType, count: int) -> Tensor:
    if count * kind.dtype.itemsize != memory.numel():
        raise ValueError(f"{memory.numel()} bytes in the place of {count} values of {kind.dtype}")
    return memory.view(kind.dtype)


def _check_byte_order(little: bool) -> None:
    if little != (sys.byteorder == "little"):
        raise ValueError("the other byte order, from another kind of processor")
