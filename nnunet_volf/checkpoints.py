"""Checkpoints that are whole or not there: written aside and moved into place, checked when read.

They hold CPU tensors and plain types only, so any machine can open them, and with ``weights_only=True``.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_volf.errors import TrainingError
from nnunet_volf.files import replacing


def plain(value: Any) -> Any:
    """Return nested data with tensors on the CPU, and numpy values and devices as tensors and plain types."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.device):  # torch 2.1 refuses to load one with weights_only=True
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def write_checkpoint(path: Path, checkpoint: dict[str, Any], keep_as: Path | None = None) -> None:
    """Write a checkpoint so that at every moment a whole file has its name; the one before can be kept as another."""
    broken = [name for name, w in checkpoint["network_weights"].items() if not torch.isfinite(w).all()]
    if broken:
        raise TrainingError(
            f"{path.name} was not written: {len(broken)} tensors of the network hold NaN or infinite values, the first "
            f"is {broken[0]}. The files written before are untouched; continue from them with --c and a lower "
            "learning_rate."
        )
    with replacing(path) as aside:
        with aside.open("wb") as file:
            torch.save(checkpoint, file)
        if keep_as is not None and path.is_file():
            _keep(path, keep_as)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint written here onto the CPU, or say what is wrong with the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise TrainingError(f"{path} is damaged: the checksum of {damaged} is wrong.")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(f"{path} cannot be read ({type(error).__name__}: {error}).") from error
    if "network_weights" not in checkpoint:
        raise TrainingError(f"{path} is no nnU-Net checkpoint: it has no 'network_weights'.")
    return checkpoint


def read_newest(candidates: Sequence[Path]) -> tuple[Path, dict[str, Any], list[str]]:
    """Return the first readable of these files, its content, and why those before it were passed over."""
    problems: list[str] = []
    for path in candidates:
        if not path.is_file():
            continue
        try:
            return path, read_checkpoint(path), problems
        except TrainingError as error:
            problems.append(str(error))
    listed = "\n".join(f"  {problem}" for problem in problems) or f"  none of {[str(c) for c in candidates]} exists"
    raise TrainingError(f"There is no checkpoint to continue from:\n{listed}\nStart again without --c.")


def _keep(path: Path, keep_as: Path) -> None:
    """Give a file a second name; a hard link costs nothing, and file systems without them get a copy."""
    with replacing(keep_as) as aside:
        try:
            os.link(path, aside)
        except OSError:
            shutil.copyfile(path, aside)
