"""A head on a U-Net's encoder, for pretexts that have no use for the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nnunet_volf.errors import TrainingError

_HEAD = "head."


class OnEncoder(nn.Module):
    """A U-Net's parts under their own names, of which the encoder is run and trained, with a head on its features.

    The state dict is that of the U-Net: what the head learns is of no use to other networks, and nnU-Net takes only
    files that hold what the network holds. Whoever saves a training saves the head beside it.
    """

    def __init__(self, unet: nn.Module, head: nn.Module) -> None:
        super().__init__()
        missing = [part for part in ("encoder", "decoder") if not hasattr(unet, part)]
        if missing:
            raise TrainingError(
                f"{type(unet).__name__} has no {' and no '.join(missing)}, which this pretext trains its head on. It "
                "works with nnU-Net's U-Nets (plain and residual), PCT-Net and FMUNet; take plans with one of those."
            )
        parts: Any = unet
        self.encoder: nn.Module = parts.encoder
        self.decoder: nn.Module = parts.decoder.requires_grad_(False)  # not run; DDP would wait for its gradients
        self.encoder.requires_grad_(True)  # nnU-Net's decoders hold the encoder too
        self.context: nn.Module = getattr(unet, "context", nn.Identity())
        self.head = head

    def forward(self, images: Tensor) -> Any:
        """Return what the head makes of the images."""
        return self.head(self.features, images)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features of all stages, the deepest ones with the context that the U-Net's decoder gets."""
        *finer, deepest = self.encoder(images)
        return [*finer, self.context(deepest)]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state of the U-Net."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        for name in [name for name in state if name.startswith(_HEAD)]:
            del state[name]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the state of a U-Net; the head stays as it is."""
        head = {f"{_HEAD}{name}": value for name, value in self.head.state_dict().items()}
        return super().load_state_dict({**head, **state_dict}, strict, assign)
