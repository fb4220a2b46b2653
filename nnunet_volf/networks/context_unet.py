"""Any U-Net of nnU-Net's plans, or of ours, with a context block between its encoder and its decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_volf.errors import SettingsError
from nnunet_volf.networks.context_block import ContextBlock
from nnunet_volf.networks.context_plans import deepest_size
from nnunet_volf.networks.memory import kept_values

# By these, networks say where nnU-Net's import of pretrained weights finds their encoder.
_KEYS = ("key_to_encoder", "key_to_stem", "keys_to_in_proj")


class ContextUNet(nn.Module):
    """A network's encoder and decoder under their own names, and a context block for the deepest features."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        network: type[nn.Module],
        features_per_stage: Sequence[int],
        conv_op: type[nn.Conv2d] | type[nn.Conv3d],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        context_dilations: Sequence[Sequence[int]],
        deep_supervision: bool = False,
        **arguments: Any,
    ) -> None:
        """Build `network` with all but the dilations, and the block."""
        super().__init__()
        self._network = partial(
            network,
            input_channels=input_channels,
            num_classes=num_classes,
            features_per_stage=features_per_stage,
            conv_op=conv_op,
            kernel_sizes=kernel_sizes,
            strides=strides,
            deep_supervision=deep_supervision,
            **arguments,
        )
        self._features, self._strides = features_per_stage[-1], strides
        plain: Any = self._network()
        missing = [part for part in ("encoder", "decoder") if not hasattr(plain, part)]
        if missing:
            raise SettingsError(
                f"A context block stands between encoder and decoder, and {network.__name__} has no "
                f"{' and no '.join(missing)}. It works with nnU-Net's U-Nets, PCT-Net and FMUNet; for another network, "
                "plan without --context-block."
            )
        self.encoder: nn.Module = plain.encoder
        self.decoder: nn.Module = plain.decoder
        with torch.random.fork_rng(devices=[]):  # so that all else begins as without the block, seed by seed
            self.context = ContextBlock(conv_op, self._features, kernel_sizes[-1], context_dilations)
        for key in _KEYS:
            if hasattr(plain, key):
                setattr(self, key, getattr(plain, key))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Segment a batch of patches."""
        *finer, deepest = self.encoder(x)
        output: Tensor | list[Tensor] = self.decoder([*finer, self.context(deepest)])
        return output

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Return nnU-Net's measure of memory: the network's own, and as `UShape` has it what the block keeps."""
        with torch.device("meta"):
            plain: Any = self._network()
        deepest = deepest_size(input_size, self._strides)
        block = kept_values(self.context, (1, self._features, *deepest)) // 2
        return int(plain.compute_conv_feature_map_size(input_size)) + block

    def initialize(self, module: nn.Module) -> None:
        """Initialise a layer as the network itself does, and leave the block the identity."""
        own = getattr(self._network.func, "initialize", None)
        if own is not None:
            own(module)
        if isinstance(module, ContextBlock):  # after its layers, as `apply` goes from the inside out
            module.start_as_identity()
