"""Files that are given as weights and are something else: say what, and what to do."""

from __future__ import annotations

import difflib
import os
import tarfile
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.pickles.torch_files import MAGIC, PICKLE

_ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".model")
_LISTED = 8
_FOLDERS_SEARCHED = 1000
_LFS = b"version https://git-lfs.github.com/spec/"
_ZIP = b"PK\x03\x04"
_STREAM = MAGIC.to_bytes(10, "little")  # of torch before 1.6

_CONVERT = "Convert it where it can be opened: torch.save(a_dictionary_of_tensors_by_name, 'weights.pth')."

_WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")

# How other formats begin.
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, such as Keras writes. {_CONVERT}"),
    (b"\x93NUMPY", f"a numpy array. {_CONVERT}"),
    (b"\x1f\x8b", "compressed with gzip. Unpack it first."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive. Unpack it first."),
    (b"Rar!", "a RAR archive. Unpack it first."),
    (b"GGUF", f"a GGUF file of a language model. {_CONVERT}"),
)


def check_place(path: Path) -> None:
    """Say what is wrong when a path is no file; name what may have been meant."""
    if path.is_dir():
        inside = sorted(_checkpoints(path))
        listed = ", ".join(str(file.relative_to(path)) for file in inside[:_LISTED]) or "none"
        more = f" and {len(inside) - _LISTED} more" if len(inside) > _LISTED else ""
        raise WeightsError(f"{path} is a folder. Name one of the checkpoints in it: {listed}{more}.")
    if path.is_file():
        return
    if not path.parent.is_dir():
        raise WeightsError(f"{path} does not exist; its folder {path.parent} does not exist either.")
    there = sorted(file.name for file in path.parent.iterdir() if file.suffix in _ENDINGS)
    close = difflib.get_close_matches(path.name, there, n=1) or there[:1]
    meant = f" Did you mean {path.parent / close[0]}?" if close else f" {path.parent} holds no checkpoint."
    raise WeightsError(f"{path} does not exist.{meant}")


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Return the checkpoints in a folder; a user may have named a whole disk, and waits."""
    for place, _, files in islice(os.walk(folder), _FOLDERS_SEARCHED):
        yield from (Path(place, file) for file in files if file.endswith(_ENDINGS))


def check_format(path: Path) -> None:
    """Say what a file is when it is none of torch's."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if problem := _problem(path, start, size):
        raise WeightsError(f"{path} is {problem}")


def is_archive(path: Path) -> bool:
    """Say whether a file has the format that torch writes since version 1.6."""
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _problem(path: Path, start: bytes, size: int) -> str | None:
    return (
        _lost_content(start, size)
        or _other_format(path, start, size)
        or (_archive_problem(path, size) if start.startswith(_ZIP) else _stream_problem(path, start))
    )


def _lost_content(start: bytes, size: int) -> str | None:
    if not size:
        return "empty (0 bytes). Download or copy it again."
    if not start.strip(b"\0"):
        return f"damaged: its first {len(start)} bytes are zero. Download or copy it again."
    if start.startswith(_LFS):
        return "a pointer of git-lfs, not the file itself. Fetch the file with: git lfs pull"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGE):
        return "a web page saved in the place of the file, often one that asks to log in. Download the file itself."
    return None


def _other_format(path: Path, start: bytes, size: int) -> str | None:
    for beginning, what in _BEGINNINGS:
        if start.startswith(beginning):
            return what
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
        return (
            'a safetensors file. Convert it with: python -c "import safetensors.torch as s, torch; '
            f"torch.save(s.load_file('{path.name}'), '{path.with_suffix('.pth').name}')\""
        )
    if path.suffix == ".onnx" or (start[:1] == b"\x08" and (b"pytorch" in start or b"onnx" in start)):
        return "an ONNX model, whose tensors have lost their names. Use the checkpoint that it was exported from."
    return None


def _stream_problem(path: Path, start: bytes) -> str | None:
    if _STREAM in start[:24]:
        return None
    if start[257:262] == b"ustar":
        return _tar_problem(path)
    if start[:1] == b"\x80":
        return f"a plain pickle, of Python's and not of torch's. {_CONVERT}"
    return "no checkpoint of torch's: neither of its two formats begins like this."


def _archive_problem(path: Path, size: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return f"cut off or damaged: {size:,} bytes are there, and no table of contents at the end. Download it again."
    names = [record.filename for record in records]
    ends = {name.split("/")[-1] for name in names}
    if "constants.pkl" in ends:
        return (
            "a TorchScript program, which may run code when it is opened. Ask its authors for the checkpoint, or where "
            "you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')."
        )
    if PICKLE in ends:
        compressed = [record for record in records if record.compress_type != zipfile.ZIP_STORED]
        if compressed:
            return "damaged or packed anew: torch does not compress. Download it again."
        promised = sum(record.file_size for record in records)
        return f"damaged: {size:,} bytes that promise {promised:,}. Download it again." if promised > size else None
    if "model.weights.h5" in ends:
        return f"a Keras model. {_CONVERT}"
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of numpy arrays. {_CONVERT}"
    inside = [name for name in names if name.endswith(_ENDINGS)]
    listed = f" It holds {', '.join(inside[:_LISTED])}." if inside else ""
    return f"a zip archive and no checkpoint itself.{listed} Unpack it first."


def _tar_problem(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()
    except (tarfile.TarError, OSError, ValueError):
        names = []
    if {"storages", "tensors", "pickle"} <= set(names):
        return "a checkpoint from before torch 0.4, which can not be opened safely. Save it anew with a later torch."
    inside = [name for name in names if name.endswith(_ENDINGS)]
    listed = f" It holds {', '.join(inside[:_LISTED])}." if inside else ""
    return f"a tar archive and no checkpoint itself.{listed} Unpack it first."
