"""The script that says how much filters have grown."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from small_configuration import CONFIGURATION

from nnunet_volf.weights.names import canonical
from nnunet_volf.weights.pretrained import Preparation, Pretrained
from nnunet_volf.weights.target import architecture_of, build_network

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
MR = Preparation(("MRI",), ("ZScoreNormalization",), (1.0, 1.0, 1.0), (16, 16, 16))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("filter_growth")


def test_growth_is_told_layer_by_layer_down_and_up(script: ModuleType) -> None:
    torch.manual_seed(3)
    architecture = architecture_of(CONFIGURATION)
    tensors = canonical(build_network(architecture, 1, 2, initialize=True).state_dict())
    factors = {"encoder.stages.0": 2.0, "encoder.stages.2": 3.0, "decoder.stages.1": 5.0}
    for part, factor in factors.items():
        tensors |= {name: tensor * factor for name, tensor in tensors.items() if name.startswith(part)}
    grown = script.growth(
        Pretrained(Path("x.pth"), "nnU-Net", "plain", tensors, architecture=architecture, preparation=MR)
    )
    assert grown == {
        "encoder": pytest.approx([2.0, 1.0, 3.0], rel=0.2),
        "decoder": pytest.approx([1.0, 5.0], rel=0.2),
    }


def test_a_file_that_does_not_say_its_network_is_refused(script: ModuleType) -> None:
    with pytest.raises(
        SystemExit, match=r"x\.pth does not say what network it is of\. Name a checkpoint of a training"
    ):
        script.growth(Pretrained(Path("x.pth"), "state dict", "plain", {}))
