"""What the converters of both published networks share: modules by the authors' names, and what is left over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.pretrained import Architecture

# By resolution mode: the strides into the five stages of both networks.
_ONE, _FLAT, _CUBE = [1, 1, 1], [1, 2, 2], [2, 2, 2]
STRIDES = {
    0: [_ONE, _CUBE, _CUBE, _CUBE, _CUBE],
    1: [_ONE, _FLAT, _CUBE, _CUBE, _CUBE],
    2: [_ONE, _FLAT, _FLAT, _CUBE, _CUBE],
}

# And the kernels of the stages: flat where the stride behind the stage is.
_KERNEL, _FLAT_KERNEL = [3, 3, 3], [1, 3, 3]
KERNELS = {
    0: [_KERNEL] * 5,
    1: [_FLAT_KERNEL, *([_KERNEL] * 4)],
    2: [_FLAT_KERNEL, _FLAT_KERNEL, *([_KERNEL] * 3)],
}


@dataclass(frozen=True)
class Converted:
    """A published network under our names."""

    tensors: dict[str, Tensor]
    architecture: Architecture
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """The tensors of a file by the authors' names, and where they come from."""

    path: Path
    network: str
    tensors: Mapping[str, Tensor]

    def weight(self, module: str, dimensions: int = 5) -> Tensor:
        """Return the weight of a module that tells how wide the network is."""
        found = self.tensors.get(f"{module}.weight")
        if found is None or found.ndim != dimensions:
            what = "is missing" if found is None else f"has the shape {tuple(found.shape)}"
            raise WeightsError(
                f"{self.path} looks like a published {self.network}, but {module}.weight, which tells how wide the "
                f"network is, {what}. Download the file again, or ask those who changed it for the original."
            )
        return found

    def features(self, module: str) -> int:
        """Return how many features a convolution puts out."""
        return int(self.weight(module).shape[0])

    def renamed(self, modules: Iterator[tuple[str, str]]) -> dict[str, Tensor]:
        """Return the tensors of modules, given as (theirs, ours), in this order."""
        kinds: dict[str, list[str]] = {}
        for name in self.tensors:
            module, _, kind = name.rpartition(".")
            kinds.setdefault(module, []).append(kind)
        return {
            f"{ours}.{kind}": self.tensors[f"{theirs}.{kind}"]
            for theirs, ours in modules
            for kind in kinds.get(theirs, ())
        }
