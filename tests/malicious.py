"""Files of weights that were made to do harm, and files made by hand: what the tests of reading share."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

LEGACY = {"_use_new_zipfile_serialization": False}


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = (function, arguments)

    def __reduce__(self) -> Any:
        return self.called


def archive(path: Path, pickled: bytes, records: Mapping[str, bytes] | None = None) -> Path:
    """Write a zip archive as torch does, around a pickle made by hand."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights/data.pkl", pickled)
        file.writestr("weights/byteorder", "little")
        for name, content in (records or {}).items():
            file.writestr(f"weights/{name}", content)
    return path


def stream(path: Path, pickled: bytes, keys: Mapping[str, list[float]] | None = None) -> Path:
    """Write a file as torch did before version 1.6, around a pickle made by hand."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    buffer = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(part, buffer, protocol=2)
    buffer.write(pickled)
    pickle.dump(list(keys or {}), buffer, protocol=2)
    for values in (keys or {}).values():
        buffer.write(struct.pack(f"<q{len(values)}f", len(values), *values))
    path.write_bytes(buffer.getvalue())
    return path


def both(folder: Path, pickled: bytes) -> tuple[Path, Path]:
    """Write a pickle in either of torch's formats."""
    return archive(folder / "archive.pth", pickled), stream(folder / "stream.pth", pickled)


def saved(path: Path, content: Any, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def tensor_pickle(
    offset: int = 0, size: str = "(I2\nt", stride: str = "(I1\nt", count: int = 2, kind: str = "ctorch\nFloatStorage\n"
) -> bytes:
    """Return the pickle of {'a': tensor}, with every number at will."""
    identifier = f"(S'storage'\n{kind}S'0'\nS'cpu'\nI{count}\nt".encode()
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + identifier + b"Q"
    rest = f"I{offset}\n{size}{stride}I00\nccollections\nOrderedDict\n(tRtR".encode()
    return b"\x80\x02}S'a'\n" + rebuild + rest + b"s."


# Instructions to make pickles of at random: calls, what can be called, and what it can be called with.
INSTRUCTIONS = [
    *(f"c{name}\n".encode() for name in (
        "os\nsystem", "mypackage\nThing", "torch._utils\n_rebuild_tensor_v2", "torch._tensor\n_rebuild_from_type_v2",
        "collections\nOrderedDict", "numpy\ndtype", "numpy\nndarray", "numpy.core.multiarray\nscalar",
        "numpy.core.multiarray\n_reconstruct", "copyreg\n_reconstructor", "builtins\nset", "_codecs\nencode",
        "torch\nSize", "torch\nFloatStorage", "pathlib\nPosixPath",
    )),
    *(bytes([code]) for code in b"(t)]}Rb\x81\x92oQaesudl012N\x85\x86\x87\x90\x8f\x91\x93\x94"),
    b"imypackage\nThing\n", b"I0\n", b"I1\n", b"I-1\n", b"F1.5\n", b"S'i4'\n", b"S'storage'\n", b"S'__class__'\n",
    b"S'0'\n", b"C\x04abcd", b"q\x00", b"h\x00",
]  # fmt: skip
