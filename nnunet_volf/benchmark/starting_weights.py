"""The files of weights that the arms of a benchmark start from, each read once."""

from __future__ import annotations

from pathlib import Path

from nnunet_volf.benchmark.arms import Weights
from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.trained import encoder_only


class StartingWeights:
    """Files of weights by their full path."""

    def __init__(self) -> None:
        self._files: dict[str, Pretrained] = {}

    def look(self, file: str, whose: str) -> Weights:
        """Say what an arm has to know of a file; `whose` it is stands in the message where it is not there."""
        path = Path(file).expanduser().resolve()
        if not path.is_file():
            raise WeightsError(f"{path}, the weights of {whose}, is not there.")
        pretrained = self.read(str(path))
        return Weights(str(path), pretrained.method, encoder_only(pretrained.trained))

    def read(self, path: str) -> Pretrained:
        """Return what a file holds."""
        if path not in self._files:
            self._files[path] = read_pretrained(Path(path))
        return self._files[path]
