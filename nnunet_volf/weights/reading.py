"""Open a file of weights from a stranger without running anything that is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnunet_volf.errors import WeightsError


@dataclass(frozen=True)
class Opened:
    """What a file holds, and how it was opened."""

    path: Path
    content: Any
    how: str  # "plain" (tensors and plain types), "restricted" (other types ignored) or "trusted" (any code run)
    ignored: tuple[str, ...] = ()  # types whose objects were left out


def open_weights(path: Path, trust: bool = False) -> Opened:
    """Read a file of weights onto the CPU; only with `trust` is code run that the file asks for."""
    if not path.is_file():
        raise WeightsError(f"{path} does not exist.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read ({type(error).__name__}: {error}).") from error
    return Opened(path, content, "trusted" if trust else "plain")
