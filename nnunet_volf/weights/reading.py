"""Open a file of weights from a stranger without running anything that is in it.

A file of torch's is a pickle, and Python's own way to open one runs whatever the file says; so did ``torch.load`` with
``weights_only=True`` before torch 2.6 (CVE-2025-32434). Here files are read by `nnunet_volf.weights.pickles`, with
every version of torch. Memory is never mapped: the file may be replaced while its weights are in use.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.foreign_files import check_format, check_place, is_archive
from nnunet_volf.weights.pickles.dangers import RunsCode
from nnunet_volf.weights.pickles.machine import Machine
from nnunet_volf.weights.pickles.torch_files import read_archive, read_stream
from nnunet_volf.weights.unfolded import check_unfolded


@dataclass(frozen=True)
class Opened:
    """What a file holds, and how it was opened."""

    path: Path
    content: Any
    how: str  # "plain" (tensors and plain types), "restricted" (other types ignored) or "trusted" (any code run)
    ignored: tuple[str, ...] = ()  # types whose objects were left out


def open_weights(path: Path, trust: bool = False) -> Opened:
    """Read a file of weights onto the CPU; only with `trust` is code run that the file asks for."""
    try:
        return _open(path, trust)
    except OSError as error:
        raise WeightsError(f"{path} can not be read: {error.strerror or error}.") from error


def _open(path: Path, trust: bool) -> Opened:
    check_place(path)
    check_format(path)
    if trust:
        return Opened(path, _run(path), "trusted")
    content, machine = _read(path)
    check_unfolded(path, content)
    plain = machine.plain and not machine.ignored
    return Opened(path, content, "plain" if plain else "restricted", tuple(sorted(machine.ignored)))


def _read(path: Path) -> tuple[Any, Machine]:
    try:
        return read_archive(path) if is_archive(path) else read_stream(path)
    except RunsCode as asked:
        raise WeightsError(
            f"{path} is refused: it calls {asked} when it is opened, which no weights need. Nothing was run. Do not "
            "open it by other means, and tell those who passed it on."
        ) from asked
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path} is damaged ({error}). Download or copy it again.") from error
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        size = path.stat().st_size
        raise WeightsError(
            f"{path} is cut off or damaged: {size:,} bytes are there, and reading them ends with "
            f"{type(error).__name__} ({error}). Download or copy it again."
        ) from error


def _run(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise WeightsError(f"{path} can not be opened ({type(error).__name__}: {error}).") from error
