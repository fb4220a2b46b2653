"""The published networks, slowly and literally: PCT-Net and FMUNet in evaluation mode, on tensors by published names.

Written from the specification, and on purpose without anything of `nnunet_volf`: windows are cut out one by one, voxels
of a window are compared pair by pair, interpolation is a table of shares for each axis. Both functions return the
segmentations of levels 0 to 3, before softmax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]

# By resolution mode: how far the poolings between levels 0, 1 and 2 reach. Between 2, 3 and 4 it is always 2 x 2 x 2.
FLAT, CUBE = (1, 2, 2), (2, 2, 2)
POOLING = {0: (CUBE, CUBE, CUBE, CUBE), 1: (FLAT, CUBE, CUBE, CUBE), 2: (FLAT, FLAT, CUBE, CUBE)}


def pct_net(image: Tensor, w: Weights, mode: int, window: int = 6) -> list[Tensor]:
    stem, head, pooling = f"embeddings.{mode}", f"pred_heads.{mode}", POOLING[mode]
    x0 = _conv_block(_conv(image, w, f"{stem}.proj"), w, f"{stem}.conv0")
    x1 = _conv_block(_down(x0, w, f"{stem}.down1", pooling[0]), w, f"{stem}.conv1")
    x2 = _down(x1, w, f"{stem}.down2", pooling[1])

    e2 = _parallel(x2, w, "pyramid_ct.convtrans_e2", window)
    e3 = _parallel(_down(e2, w, "pyramid_ct.down3", pooling[2]), w, "pyramid_ct.convtrans_e3", window)
    e4 = _parallel(_down(e3, w, "pyramid_ct.down4", pooling[3]), w, "pyramid_ct.convtrans_e4", window)
    d3 = _parallel(_up(e3, e4, w, "pyramid_ct.up4"), w, "pyramid_ct.convtrans_d3", window)
    d2 = _parallel(_up(e2, d3, w, "pyramid_ct.up3"), w, "pyramid_ct.convtrans_d2", window)

    d1 = _conv_block(_up(x1, d2, w, f"{head}.up2"), w, f"{head}.conv1")
    d0 = _conv_block(_up(x0, d1, w, f"{head}.up1"), w, f"{head}.conv0")
    features = (d0, d1, d2, d3)
    names = (f"{head}.out_conv0", f"{head}.out_conv1", "pyramid_ct.out_conv2", "pyramid_ct.out_conv3")
    return [_unit(x, w, f"{name}.conv") for x, name in zip(features, names, strict=True)]


def fm_unet(image: Tensor, w: Weights, mode: int) -> list[Tensor]:
    pooling = POOLING[mode]
    x = _conv(image, w, "project")
    encoded = [_residual(x, w, "encoder.en_conv0")]
    for level in range(4):
        x = _leaky(_instance_norm(encoded[-1], w, f"encoder.down{level}.down.0"))
        x = _conv(x, w, f"encoder.down{level}.down.2", stride=pooling[level])
        encoded.append(_residual(x, w, f"encoder.en_conv{level + 1}"))
    x = _residual(encoded[4], w, "decoder.de_conv4")
    decoded = []
    for level in (3, 2, 1, 0):
        name = f"decoder.upcat{level}"
        x = _conv(_leaky(_instance_norm(x, w, f"{name}.up.0")), w, f"{name}.up.2")
        x = torch.cat([encoded[level], _stretch(x, pooling[level])], dim=1)
        x = _conv(_leaky(_instance_norm(x, w, f"{name}.conv.0")), w, f"{name}.conv.2")
        x = _residual(x, w, f"decoder.de_conv{level}")
        decoded.insert(0, x)
    return [
        _conv(_leaky(_instance_norm(x, w, f"out_layers.{i}.0")), w, f"out_layers.{i}.2") for i, x in enumerate(decoded)
    ]


# PCT-Net: convolutions.


def _conv(x: Tensor, w: Weights, name: str, stride: Sequence[int] = (1, 1, 1)) -> Tensor:
    weight = w[f"{name}.weight"]
    return functional.conv3d(x, weight, w[f"{name}.bias"], stride, [side // 2 for side in weight.shape[2:]])


def _along_features(values: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1, 1)


def _batch_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    mean, variance = _along_features(w[f"{name}.running_mean"]), _along_features(w[f"{name}.running_var"])
    scaled = (x - mean) / (variance + 1e-5).sqrt()
    return scaled * _along_features(w[f"{name}.weight"]) + _along_features(w[f"{name}.bias"])


def _prelu(x: Tensor, w: Weights, name: str) -> Tensor:
    return torch.where(x > 0, x, w[f"{name}.weight"] * x)


def _unit(x: Tensor, w: Weights, name: str, norm: int = 0, act: int = 1, conv: int = 2) -> Tensor:
    return _conv(_prelu(_batch_norm(x, w, f"{name}.{norm}"), w, f"{name}.{act}"), w, f"{name}.{conv}")


def _conv_block(x: Tensor, w: Weights, name: str) -> Tensor:
    return _unit(_unit(x, w, f"{name}.conv_conv"), w, f"{name}.conv_conv", norm=3, act=4, conv=6)


def _down(x: Tensor, w: Weights, name: str, pooling: Sequence[int]) -> Tensor:
    return _unit(functional.max_pool3d(x, pooling), w, f"{name}.conv")


def _up(skip: Tensor, below: Tensor, w: Weights, name: str) -> Tensor:
    x = _prelu(_batch_norm(below, w, f"{name}.up.0"), w, f"{name}.up.1")
    weight = w[f"{name}.up.2.weight"]
    x = functional.conv_transpose3d(x, weight, w[f"{name}.up.2.bias"], stride=weight.shape[2:])
    return _unit(torch.cat([skip, x], dim=1), w, f"{name}.conv")


def _parallel(x: Tensor, w: Weights, name: str, window: int) -> Tensor:
    tokens = x.permute(0, 2, 3, 4, 1)
    for number, shift in ((0, 0), (1, window // 2)):
        block = f"{name}.trans.blocks.{number}"
        tokens = torch.stack([_transformer(volume, w, block, window, shift) for volume in tokens])
    return _conv_block(x, w, f"{name}.conv") + tokens.permute(0, 4, 1, 2, 3)


# PCT-Net: attention, for one volume of shape (z, y, x, features).


def _transformer(volume: Tensor, w: Weights, name: str, window: int, shift: int) -> Tensor:
    if min(volume.shape[:3]) <= window:
        window, shift = min(volume.shape[:3]), 0
    volume = volume + _windows(_layer_norm(volume, w, f"{name}.norm1"), w, f"{name}.attn", window, shift)
    inner = functional.gelu(_linear(_layer_norm(volume, w, f"{name}.norm2"), w, f"{name}.mlp.fc1"))
    return volume + _linear(inner, w, f"{name}.mlp.fc2")


def _windows(volume: Tensor, w: Weights, name: str, window: int, shift: int) -> Tensor:
    """Pad behind the ends, move, look window by window, move back, take the padding away."""
    size = volume.shape[:3]
    whole = [-(-side // window) * window for side in size]
    padded = volume.new_zeros((*whole, volume.shape[3]))
    padded[: size[0], : size[1], : size[2]] = volume
    z, y, x = ([(place + shift) % side for place in range(side)] for side in whole)
    moved = padded[z][:, y][:, :, x]
    regions = _regions(whole, window, shift)
    seen = torch.empty_like(moved)
    for corner in product(*(range(0, side, window) for side in whole)):
        place = tuple(slice(start, start + window) for start in corner)
        tokens, region = moved[place].reshape(window**3, -1), regions[place].reshape(-1)
        seen[place] = _attend(tokens, region, w, name, window).reshape(moved[place].shape)
    back = torch.empty_like(seen)
    for i, j in product(range(whole[0]), range(whole[1])):
        back[z[i], y[j], x] = seen[i, j]
    return back[: size[0], : size[1], : size[2]]


def _regions(whole: Sequence[int], window: int, shift: int) -> Tensor:
    """Number the 27 boxes whose voxels were neighbours before the shift; without a shift there is one."""
    regions = torch.zeros(*whole, dtype=torch.long)
    if shift:
        parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
        for number, (z, y, x) in enumerate(product(parts, repeat=3)):
            regions[z, y, x] = number
    return regions


def _attend(tokens: Tensor, region: Tensor, w: Weights, name: str, window: int) -> Tensor:
    table = w[f"{name}.relative_position_bias_table"]
    bias = table[published_index(window)]  # (voxels, voxels, heads)
    apart = region[:, None] != region[None, :]
    queries, keys, values = _linear(tokens, w, f"{name}.qkv").chunk(3, dim=1)
    width = tokens.shape[1] // table.shape[1]
    seen = []
    for head in range(table.shape[1]):
        own = slice(head * width, (head + 1) * width)
        scores = queries[:, own] @ keys[:, own].T * width**-0.5 + bias[:, :, head]
        scores[apart] -= 100.0
        seen.append(scores.softmax(dim=1) @ values[:, own])
    return _linear(torch.cat(seen, dim=1), w, f"{name}.proj")


@lru_cache(maxsize=8)
def published_index(window: int) -> Tensor:
    """Return the row of the bias table for each pair of a window's voxels, with the authors' strides (17, 11, 1)."""
    voxels = list(product(range(window), repeat=3))
    strides = (3 * window - 1, 2 * window - 1, 1)
    rows = [
        [sum(s * (a - b + window - 1) for s, a, b in zip(strides, one, other, strict=True)) for other in voxels]
        for one in voxels
    ]
    return torch.tensor(rows)


def _linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


# FMUNet.


def _instance_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean((2, 3, 4), keepdim=True)
    scaled = centred / (centred.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()
    return scaled * _along_features(w[f"{name}.weight"]) + _along_features(w[f"{name}.bias"])


def _leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def _residual(x: Tensor, w: Weights, name: str) -> Tensor:
    unit = 0
    while f"{name}.conv_list.{unit}.3.weight" in w:
        at = f"{name}.conv_list.{unit}"
        x = x + _conv(_leaky(_instance_norm(x, w, f"{at}.0")), w, f"{at}.3")
        unit += 1
    return x


def _stretch(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Interpolate linearly so that the first and the last voxel of each axis stay where they are."""
    for axis, factor in enumerate(factors, start=2):
        before, after = x.shape[axis], x.shape[axis] * factor
        shares = x.new_zeros(after, before)
        for place in range(after):
            at = place * (before - 1) / (after - 1) if after > 1 else 0.0
            low = min(int(at), before - 1)
            shares[place, low] += 1 - (at - low)
            shares[place, min(low + 1, before - 1)] += at - low
        x = torch.tensordot(shares, x.movedim(axis, 0), dims=1).movedim(0, axis)
    return x
