"""What is known about weights, written into a file of ours that no training wrote, and read back from there.

Such a file has the layout of nnU-Net's checkpoints. Where its network is of other plans than the pretraining was,
`init_args` describe the network that is in it, and the record how it was pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_volf.checkpoints import plain, write_checkpoint
from nnunet_volf.durable import STATE_KEY
from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.pretrained import Architecture, Preparation, Pretrained

# Within our key of a checkpoint.
RECORD_KEY = "pretrained"

_KEPT = ("kind", "trainer", "dataset", "configuration", "epochs")


def write_weights(
    output: Path,
    weights: Mapping[str, Tensor],
    pretrained: Pretrained,
    init_args: Mapping[str, Any] | None = None,
    notes: tuple[str, ...] = (),
    **more: Any,
) -> None:
    """Write tensors and all that is known about them; `notes` and `more` say what was done to them on the way."""
    if output.exists():
        raise WeightsError(f"{output} exists. Choose another name with -o, or remove it first.")
    output.parent.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {name: getattr(pretrained, name) for name in _KEPT}
    about["notes"] = [*pretrained.notes, *notes]
    about["preparation"] = asdict(pretrained.preparation) if pretrained.preparation else None
    about["architecture"] = asdict(pretrained.architecture) if pretrained.architecture and not init_args else None
    ours = {
        "method": pretrained.method,
        **({"transfers": list(pretrained.trained)} if pretrained.trained else {}),
        "settings": dict(pretrained.settings),
        "data": dict(pretrained.data),
        "versions": dict(pretrained.versions),
        "citations": list(pretrained.citations),
        RECORD_KEY: about,
        **more,
    }
    content = {
        "network_weights": dict(weights),
        "trainer_name": pretrained.trainer,
        "current_epoch": pretrained.epochs,
        **({"init_args": dict(init_args)} if init_args else {}),
        STATE_KEY: ours,
    }
    write_checkpoint(output, plain(content))


def with_record(pretrained: Pretrained, record: Mapping[str, Any]) -> Pretrained:
    """Return weights with what their record says in place of what the plans beside them do."""
    prepared, built = record.get("preparation"), record.get("architecture")
    known: dict[str, Any] = {name: record[name] for name in _KEPT if record.get(name) is not None}
    if prepared:
        known["preparation"] = Preparation(**{name: _tuple(value) for name, value in prepared.items()})
    if built:
        known["architecture"] = Architecture(
            built["class_name"], built["arguments"], tuple(built.get("needs_import", ()))
        )
    return replace(pretrained, notes=tuple(record.get("notes", ())), **known)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
