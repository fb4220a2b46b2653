"""Attention among the voxels of a window, and the transformer block around it (Swin, Liu et al. 2021, in 3D)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from dynamic_network_architectures.building_blocks.regularization import DropPath
from torch import Tensor, nn
from torch.nn import functional

from nnunet_volf.networks import windows


class WindowAttention(nn.Module):
    """Every voxel looks at the others of its window; how much also depends on the way from one to the other."""

    index: Tensor

    def __init__(self, features: int, heads: int, window: int, shifted: bool, dropout: float, reference: bool) -> None:
        """Take the geometry; `shifted` moves windows by half their side, so that neighbours meet across borders.

        With `reference`, as the published weights have it, the zeros behind the end of a volume are attended to like
        voxels, and nothing is shifted where some axis has one window only.
        """
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.dropout, self.reference = dropout, reference
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)
        self.bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 3, heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("index", windows.relative_positions(window), persistent=False)

    def forward(self, volume: Tensor) -> Tensor:
        """Return what each voxel of (batch, z, y, x, features) saw."""
        size = (int(volume.shape[1]), int(volume.shape[2]), int(volume.shape[3]))
        missing = windows.padding(size, self.window)
        shift = windows.shifts(size, self.window, together=self.reference) if self.shifted else (0, 0, 0)
        padded = windows.roll(windows.pad(volume, missing), [-step for step in shift])
        cut = windows.to_windows(padded, self.window)
        seen = self._attend(cut, self._bias(cut, size, shift, any(missing)))
        seen = functional.dropout(self.proj(seen), self.dropout, self.training)
        whole = windows.roll(windows.from_windows(seen, self.window, padded.shape[1:4]), shift)
        return whole[:, : size[0], : size[1], : size[2]]

    def _attend(self, cut: Tensor, bias: Tensor) -> Tensor:
        count, voxels, features = cut.shape
        query, key, value = self.qkv(cut).view(count, voxels, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        rate = self.dropout if self.training else 0.0
        # One fused kernel: the matrix of all pairs is never stored, where the device has such a kernel.
        seen = functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), rate)
        return seen.transpose(1, 2).reshape(count, voxels, features)

    def _bias(self, cut: Tensor, size: tuple[int, ...], shift: tuple[int, ...], padded: bool) -> Tensor:
        """Return (batch * windows, heads, voxels, voxels): by relative position, -inf where nothing may be seen."""
        bias = self.bias_table[self.index].permute(2, 0, 1).contiguous()
        if not any(shift) and not (padded and not self.reference):
            return bias.expand(len(cut), -1, -1, -1)
        seen = windows.may_attend(size, self.window, shift, hide_padding=not self.reference, like=cut)
        masked = bias.masked_fill(~seen[:, None], float("-inf"))
        return masked.repeat(len(cut) // len(seen), 1, 1, 1)


class TransformerBlock(nn.Module):
    """Attention and a perceptron, each beside a path that nothing touches."""

    def __init__(self, attention: WindowAttention, features: int, dropout: float, drop_path: float) -> None:
        """Take the attention; the perceptron is four times as wide as its input."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = attention
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(features, 4 * features),
                nonlin=nn.GELU(),
                dropout1=nn.Dropout(dropout),
                fc2=nn.Linear(4 * features, features),
                dropout2=nn.Dropout(dropout),
            )
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, volume: Tensor) -> Tensor:
        """Return (batch, z, y, x, features) of the same size."""
        volume = volume + self.drop_path(self.attention(self.norm1(volume)))
        seen: Tensor = volume + self.drop_path(self.mlp(self.norm2(volume)))
        return seen
