"""Stand-ins for the authors' published files: exactly their structure, with random weights of any width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_networks import published_index
from torch import Tensor

# Attention has a head for each 32 features. At these widths there are one, two and two.
SMALL = (4, 6, 32, 64, 64)
PUBLISHED_PCT_NET, PUBLISHED_FM_UNET = (24, 48, 128, 256, 512), (32, 64, 128, 256, 512)

Shapes = Iterator[tuple[str, tuple[int, ...]]]

# By resolution mode: the kernels of levels 0 and 1, and what the poolings after them span.
_CUBE, _FLAT = (3, 3, 3), (1, 3, 3)
_KERNELS = {0: (_CUBE, _CUBE), 1: (_FLAT, _CUBE), 2: (_FLAT, _FLAT)}
_POOLING = {0: ((2, 2, 2), (2, 2, 2)), 1: ((1, 2, 2), (2, 2, 2)), 2: ((1, 2, 2), (1, 2, 2))}

# Tensors of a state dict that are no parameters.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")


def pct_net_shapes(
    features: Sequence[int] = SMALL, outputs: int = 5, channels: int = 1, windows: Sequence[int] = (6, 6, 6)
) -> Shapes:
    """Yield names and shapes of all three stems and heads and what they share, in the order of the file."""
    for mode in range(3):
        yield from _embedding(f"embeddings.{mode}", features, channels, mode)
    yield from _pyramid(features[2:], outputs, windows)
    for mode in range(3):
        yield from _prediction_head(f"pred_heads.{mode}", features, outputs, mode)


def fm_unet_shapes(
    features: Sequence[int] = SMALL, outputs: int = 5, channels: int = 1, mode: int = 0, depth: int = 2
) -> Shapes:
    kernels = [*_KERNELS[mode], _CUBE, _CUBE, _CUBE]
    yield from _conv("project", features[0], channels, kernels[0])
    for level, n in enumerate(features):
        yield from _residual(f"encoder.en_conv{level}", n, kernels[level], depth)
    for level in range(4):
        yield from _plain_unit(f"encoder.down{level}.down", features[level], features[level + 1], kernels[level])
    for level in range(4):
        below, n = features[level + 1], features[level]
        yield from _plain_unit(f"decoder.upcat{level}.up", below, n, (1, 1, 1))
        yield from _plain_unit(f"decoder.upcat{level}.conv", 2 * n, n, kernels[level])
    for level, n in enumerate(features):
        yield from _residual(f"decoder.de_conv{level}", n, kernels[level], depth)
    for level in range(4):
        yield from _plain_unit(f"out_layers.{level}", features[level], outputs, kernels[level])


def pct_net_weights(
    features: Sequence[int] = SMALL, trained: Sequence[int] = (1,), seed: int = 0, **more: Any
) -> dict[str, Tensor]:
    """Return random weights; stems and heads that no batch has passed are as they were when they were made."""
    weights = _random(pct_net_shapes(features, **more), seed)
    for mode in {0, 1, 2} - set(trained):
        for name, value in weights.items():
            if name.startswith((f"embeddings.{mode}.", f"pred_heads.{mode}.")):
                _as_made(name, value, f"{name.rsplit('.', 1)[0]}.running_mean" in weights)
    return weights


def fm_unet_weights(features: Sequence[int] = SMALL, seed: int = 0, **more: Any) -> dict[str, Tensor]:
    return _random(fm_unet_shapes(features, **more), seed)


def write_published(path: Path, weights: dict[str, Tensor], **changes: Any) -> Path:
    """Write a file as PyMIC's agent does after its best validation, with the state of an Adam and a numpy score."""
    state = OrderedDict(weights)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined] # as torch's state_dict() has
    names = [name for name in weights if name.split(".")[-1] not in BUFFERS]
    moments = {0: _adam(weights[names[0]]), 1: _adam(weights[names[1]])}
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-5, "amsgrad": False,
             "params": list(range(len(names)))}  # fmt: skip
    content = {
        "iteration": 200_000,
        "valid_pred": np.float64(0.875),
        "model_state_dict": state,
        "optimizer_state_dict": {"state": moments, "param_groups": [group]},
        **changes,
    }
    torch.save(content, path)
    return path


def _adam(weight: Tensor) -> dict[str, Any]:
    return {"step": torch.tensor(200_000.0), "exp_avg": torch.zeros_like(weight), "exp_avg_sq": weight.square()}


# PCT-Net.


def _embedding(name: str, features: Sequence[int], channels: int, mode: int) -> Shapes:
    first, second = _KERNELS[mode]
    yield from _conv(f"{name}.proj", features[0], channels, first)
    yield from _conv_block(f"{name}.conv0", features[0], first)
    yield from _conv_block(f"{name}.conv1", features[1], second)
    yield from _unit(f"{name}.down1.conv", features[0], features[1], second)
    yield from _unit(f"{name}.down2.conv", features[1], features[2], _CUBE)


def _pyramid(features: Sequence[int], outputs: int, windows: Sequence[int]) -> Shapes:
    name = "pyramid_ct"
    yield from _unit(f"{name}.down3.conv", features[0], features[1], _CUBE)
    yield from _unit(f"{name}.down4.conv", features[1], features[2], _CUBE)
    yield from _up(f"{name}.up3", features[0], features[1], _CUBE, (2, 2, 2))
    yield from _up(f"{name}.up4", features[1], features[2], _CUBE, (2, 2, 2))
    for which, level in (("e2", 0), ("d2", 0), ("e3", 1), ("d3", 1), ("e4", 2)):
        yield from _parallel(f"{name}.convtrans_{which}", features[level], windows[level])
    yield from _unit(f"{name}.out_conv2.conv", features[0], outputs, (1, 1, 1))
    yield from _unit(f"{name}.out_conv3.conv", features[1], outputs, (1, 1, 1))


def _prediction_head(name: str, features: Sequence[int], outputs: int, mode: int) -> Shapes:
    (first, second), pooling = _KERNELS[mode], _POOLING[mode]
    yield from _up(f"{name}.up1", features[0], features[1], first, pooling[0])
    yield from _up(f"{name}.up2", features[1], features[2], second, pooling[1])
    yield from _conv_block(f"{name}.conv0", features[0], first)
    yield from _conv_block(f"{name}.conv1", features[1], second)
    yield from _unit(f"{name}.out_conv0.conv", features[0], outputs, (1, 1, 1))
    yield from _unit(f"{name}.out_conv1.conv", features[1], outputs, (1, 1, 1))


def _parallel(name: str, n: int, window: int) -> Shapes:
    yield from _conv_block(f"{name}.conv", n, _CUBE)
    for block in (f"{name}.trans.blocks.0", f"{name}.trans.blocks.1"):
        yield from _affine(f"{block}.norm1", n)
        yield f"{block}.attn.relative_position_bias_table", ((2 * window - 1) ** 3, max(1, n // 32))
        yield f"{block}.attn.relative_position_index", (window**3, window**3)
        yield from _linear(f"{block}.attn.qkv", 3 * n, n)
        yield from _linear(f"{block}.attn.proj", n, n)
        yield from _affine(f"{block}.norm2", n)
        yield from _linear(f"{block}.mlp.fc1", 4 * n, n)
        yield from _linear(f"{block}.mlp.fc2", n, 4 * n)
    yield from _affine(f"{name}.norm_layer", n)


def _up(name: str, n: int, below: int, kernel: Sequence[int], stride: Sequence[int]) -> Shapes:
    yield from _before(f"{name}.up", below)
    yield f"{name}.up.2.weight", (below, n, *stride)
    yield f"{name}.up.2.bias", (n,)
    yield from _unit(f"{name}.conv", 2 * n, n, kernel)


def _conv_block(name: str, n: int, kernel: Sequence[int]) -> Shapes:
    yield from _unit(f"{name}.conv_conv", n, n, kernel)
    yield from _batch_norm(f"{name}.conv_conv.3", n)
    yield f"{name}.conv_conv.4.weight", (1,)
    yield from _conv(f"{name}.conv_conv.6", n, n, kernel)


def _unit(name: str, inputs: int, outputs: int, kernel: Sequence[int]) -> Shapes:
    yield from _before(name, inputs)
    yield from _conv(f"{name}.2", outputs, inputs, kernel)


def _before(name: str, n: int) -> Shapes:
    yield from _batch_norm(f"{name}.0", n)
    yield f"{name}.1.weight", (1,)


def _batch_norm(name: str, n: int) -> Shapes:
    yield from _affine(name, n)
    yield f"{name}.running_mean", (n,)
    yield f"{name}.running_var", (n,)
    yield f"{name}.num_batches_tracked", ()


# FMUNet, and what both have.


def _residual(name: str, n: int, kernel: Sequence[int], depth: int) -> Shapes:
    for unit in range(depth):
        yield from _affine(f"{name}.conv_list.{unit}.0", n)
        yield from _conv(f"{name}.conv_list.{unit}.3", n, n, kernel)


def _plain_unit(name: str, inputs: int, outputs: int, kernel: Sequence[int]) -> Shapes:
    yield from _affine(f"{name}.0", inputs)
    yield from _conv(f"{name}.2", outputs, inputs, kernel)


def _affine(name: str, n: int) -> Shapes:
    yield f"{name}.weight", (n,)
    yield f"{name}.bias", (n,)


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _conv(name: str, outputs: int, inputs: int, kernel: Sequence[int]) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, *kernel)
    yield f"{name}.bias", (outputs,)


# Values: of a size that every layer shows in the output.


def _random(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: _values(name, shape, generator) for name, shape in shapes}


def _values(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    kind = name.split(".")[-1]
    if kind == "num_batches_tracked":
        return torch.tensor(200_000)
    if kind == "relative_position_index":
        return published_index(round(shape[0] ** (1 / 3))).clone()
    noise = torch.randn(shape, generator=generator)
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        return 0.75 + 0.5 * torch.rand(shape, generator=generator)
    if len(shape) > 1 and "table" not in kind:
        return noise / max(1, int(np.prod(shape[1:]))) ** 0.5
    return noise / 2


def _as_made(name: str, value: Tensor, of_norm: bool) -> None:
    kind = name.split(".")[-1]
    if kind in ("num_batches_tracked", "running_mean") or (of_norm and kind == "bias"):
        value.zero_()
    elif kind == "running_var" or (of_norm and kind == "weight"):
        value.fill_(1)
    elif tuple(value.shape) == (1,):
        value.fill_(0.25)
