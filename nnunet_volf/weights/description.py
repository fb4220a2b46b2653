"""What a file of weights is, as text for people and as plain data for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from nnunet_volf.finetune_settings import FINE_TUNING, FineTuneSettings
from nnunet_volf.pretext.catalogue import load_settings, method_labelled
from nnunet_volf.printable import printable
from nnunet_volf.setting_rules import Settings
from nnunet_volf.weights.architectures import name_of
from nnunet_volf.weights.dialects.values import text
from nnunet_volf.weights.names import is_head
from nnunet_volf.weights.pretrained import Architecture, Pretrained
from nnunet_volf.weights.trained import CONTEXT, say_trained

OPENED = {
    "plain": "safely: tensors and plain types only, as torch.load(weights_only=True) takes them",
    "restricted": "safely: nothing in it was run; torch.load(weights_only=True) may refuse it, so import it first",
    "trusted": "with --trust: code that it asks for was run",
}

_STAGE = re.compile(r"encoder\.stages\.(\d+)\.")
_LABEL_WIDTH = 13
_CONTENT_SHOWN = 16  # letters of a hash


def describe(pretrained: Pretrained) -> str:
    """Return what is known about weights, a line a fact; what the file does not say is left out."""
    known = facts(pretrained)
    lines = [_title(pretrained), ("opened", OPENED[pretrained.opened])]
    lines += [("trained on", _joined(known, "dataset", "configuration", "plans", epochs="{} epochs"))]
    lines += [("trained", say_trained(pretrained.trained))]
    lines += _network_lines(known, pretrained.architecture)
    lines += _preparation_lines(pretrained)
    if pretrained.settings:
        changed = ", ".join(
            f"{name} {json.dumps(value, default=str)}" for name, value in known["settings_changed"].items()
        )
        lines.append(("settings", changed or "the defaults"))
    lines += [("data", _data(pretrained.data))]
    lines += [("versions", ", ".join(f"{name} {version}" for name, version in pretrained.versions.items()))]
    lines += [("cite", citation) for citation in pretrained.citations]
    lines += [("note", note) for note in pretrained.notes]
    return "\n".join(printable(f"{label:{_LABEL_WIDTH}} {value}".rstrip()) for label, value in lines if value)


def facts(pretrained: Pretrained) -> dict[str, Any]:
    """Return the same as plain data that JSON keeps, with the shape of each tensor."""
    kind = _settings_of(pretrained.method)
    usual = kind().to_mapping() if kind else {}
    return {
        "file": str(pretrained.path),
        "kind": pretrained.kind,
        "opened": pretrained.opened,
        "trainer": pretrained.trainer,
        "method": pretrained.method,
        "trained": list(pretrained.trained),
        "dataset": pretrained.dataset,
        "configuration": pretrained.configuration,
        "plans": text((pretrained.plans or {}).get("plans_name")),
        "epochs": pretrained.epochs,
        "network": asdict(pretrained.architecture) if pretrained.architecture else None,
        "stages": _stages(pretrained.tensors),
        "input_channels": _input_channels(pretrained.tensors),
        "outputs": _outputs(pretrained.tensors),
        "parameters": parameters_by_part(pretrained.tensors),
        "preparation": asdict(pretrained.preparation) if pretrained.preparation else None,
        "settings": dict(pretrained.settings),
        "settings_changed": {
            name: value for name, value in pretrained.settings.items() if name not in usual or usual[name] != value
        },
        "data": dict(pretrained.data),
        "versions": dict(pretrained.versions),
        "citations": list(pretrained.citations),
        "notes": list(pretrained.notes),
        "tensors": {
            name: {"shape": list(tensor.shape), "type": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in pretrained.tensors.items()
        },
    }


def _settings_of(label: str | None) -> type[Settings] | None:
    """Return the settings that trainings have, by the method that their checkpoints name."""
    if label == FINE_TUNING:
        return FineTuneSettings
    method = method_labelled(label)
    return load_settings(method) if method else None


def parameters_by_part(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many values the encoder, the decoder, the heads and whatever else there is have."""
    parts = {"encoder": 0, CONTEXT: 0, "decoder": 0, "heads": 0, "other": 0}
    for name, tensor in tensors.items():
        part = "heads" if is_head(name) else name.split(".")[0]
        parts[part if part in parts else "other"] += tensor.numel()
    return {part: values for part, values in parts.items() if values}


def _stages(tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Return features and kernel of each stage of a U-Net's encoder, as its tensors have them."""
    found: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        stage = _STAGE.match(name)
        if stage and name.endswith("conv.weight") and tensor.ndim > 3 and ".down." not in name:
            found.setdefault(int(stage[1]), tensor)
    return [{"features": found[s].shape[0], "kernel": list(found[s].shape[2:])} for s in sorted(found)]


def _input_channels(tensors: Mapping[str, Tensor]) -> int | None:
    first = (t for name, t in tensors.items() if name.startswith("encoder.") and t.ndim > 3)
    return next((int(tensor.shape[1]) for tensor in first), None)


def _outputs(tensors: Mapping[str, Tensor]) -> int | None:
    heads = [tensor for name, tensor in tensors.items() if is_head(name) and name.endswith(".weight")]
    return int(heads[-1].shape[0]) if heads else None


def _title(pretrained: Pretrained) -> tuple[str, str]:
    kind = {"state dict": "tensors by name, and no word on where they come from"}
    known = [kind.get(pretrained.kind, pretrained.kind), pretrained.method, pretrained.trainer]
    return pretrained.path.name, ", ".join(part for part in known if part)


def _joined(known: Mapping[str, Any], *names: str, **patterns: str) -> str:
    parts = [str(known[name]) for name in names if known[name]]
    parts += [pattern.format(known[name]) for name, pattern in patterns.items() if known[name] is not None]
    return ", ".join(parts)


def _network_lines(known: Mapping[str, Any], architecture: Architecture | None) -> list[tuple[str, str]]:
    network, stages, parts = known["network"], known["stages"], known["parameters"]
    name = name_of(architecture) if architecture else "not described"
    lines = [("network", f"{name}, {len(stages)} stages" if stages else name)]
    if stages:
        lines.append(("  features", ", ".join(str(stage["features"]) for stage in stages)))
        lines.append(("  kernels", ", ".join(_times(stage["kernel"]) for stage in stages)))
    strides = network["arguments"].get("strides") if network else None
    if isinstance(strides, (list, tuple)):
        lines.append(("  strides", ", ".join(map(_times, strides))))
    shares = "; ".join(f"{part} {values:,}" for part, values in parts.items())
    lines.append(("parameters", f"{sum(parts.values()):,}: {shares}"))
    if known["input_channels"]:
        names = (known["preparation"] or {}).get("channels", ())
        lines.append(("channels", f"{known['input_channels']}{_listed(names)}"))
    if known["outputs"]:
        lines.append(("heads", f"{known['outputs']} outputs; they stay behind when another task starts from this file"))
    return lines


def _preparation_lines(pretrained: Pretrained) -> list[tuple[str, str]]:
    prepared = pretrained.preparation
    if prepared is None:
        return [("prepared", "not recorded: ask for spacing and normalisation before you use it")]
    spacing = f"{_times(f'{side:g}' for side in prepared.spacing)} mm" if prepared.spacing else ""
    patch = f"patch {_times(prepared.patch)}" if prepared.patch else ""
    lines = [("prepared", ", ".join(filter(None, (spacing, patch, *prepared.normalization))))]
    for channel, values in zip(prepared.channels, prepared.intensities, strict=False):
        shown = ", ".join(f"{name} {value:.6g}" for name, value in values.items() if isinstance(value, (int, float)))
        lines.append(("  intensities", f"{channel}: {shown}"))
    return lines


def _data(data: Mapping[str, Any]) -> str:
    parts = [f"{data['cases']} cases"] if data.get("cases") else []
    parts += [f"{data['held_out']} held out"] if data.get("held_out") else []
    parts += [f"content {str(data['content'])[:_CONTENT_SHOWN]}…"] if data.get("content") else []
    return ", ".join(parts)


def _times(sides: Any) -> str:
    return str(sides) if isinstance(sides, (int, str)) else "x".join(map(str, sides))


def _listed(names: Any) -> str:
    return f": {', '.join(names)}" if names else ""
