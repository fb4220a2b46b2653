"""The networks that plans name as ``nnunet_volf.networks.PCTNet``, ``…FMUNet`` and ``…ContextUNet``.

They are imported when they are asked for: commands that only name them, from the catalogue, load no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_volf.networks.context_unet import ContextUNet
    from nnunet_volf.networks.fm_unet import FMUNet
    from nnunet_volf.networks.pct_net import PCTNet

__all__ = ["ContextUNet", "FMUNet", "PCTNet"]

_FILES = {"ContextUNet": "context_unet", "FMUNet": "fm_unet", "PCTNet": "pct_net"}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
