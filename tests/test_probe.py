"""The linear probe of pretrained features."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from small_configuration import CONFIGURATION
from torch import nn
from torch.nn import functional

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
SHAPE = (11, 9, 14)  # of no side that a network can halve
WIDTHS = (4, 6, 8, 6, 4)  # of the stages of encoder and decoder


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("probe")


@pytest.fixture
def network(probe: ModuleType) -> nn.Module:
    built: nn.Module = probe.build(CONFIGURATION, 1, 3, None)
    return built


def scan() -> tuple[torch.Tensor, torch.Tensor]:
    """An image in which two boxes are labelled."""
    labels = torch.zeros(SHAPE, dtype=torch.long)
    labels[1:5, 2:7, 2:6], labels[6:10, 2:7, 8:13] = 1, 2
    return torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(3)) + labels[None], labels


def test_every_stage_gives_its_maps_and_hooks_are_taken_back(probe: ModuleType, network: nn.Module) -> None:
    maps = probe.stages(network, scan()[0])
    assert [len(stage) for stage in maps] == list(WIDTHS)
    assert [tuple(stage.shape[1:]) for stage in maps[:3]] == [(16, 16, 16), (8, 8, 8), (4, 4, 4)]
    assert not any(module._forward_hooks for module in network.modules())
    assert probe.columns(network, "encoder") == slice(0, 18)
    assert probe.columns(network, "decoder") == slice(18, None)


def test_drawn_voxels_stand_for_all_of_their_class_and_have_its_features(
    probe: ModuleType, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "VOXELS", 50)
    image, labels = scan()
    maps = probe.stages(network, image)
    drawn = probe.draw(maps, labels, 3)
    assert [int((drawn.labels == label).sum()) for label in range(3)] == [50, 50, 50]
    for label in range(3):
        weight = drawn.weights[drawn.labels == label].sum()
        assert float(weight) == pytest.approx(int((labels == label).sum()))
    first = (labels == 1).nonzero()
    there = maps[0][:, first[:, 0], first[:, 1], first[:, 2]].T
    for features in drawn.features[drawn.labels == 1][:5, :4]:
        assert (there == features).all(dim=1).any()


def test_planes_before_enlarging_are_planes_after_it(probe: ModuleType, network: nn.Module) -> None:
    image, _ = scan()
    maps = probe.stages(network, image)
    coefficients, offset = torch.randn(3, sum(WIDTHS)), torch.randn(3)
    wide = [functional.interpolate(stage[None], (16, 16, 16), mode="trilinear")[0] for stage in maps]
    features = torch.cat(wide)[:, : SHAPE[0], : SHAPE[1], : SHAPE[2]]
    literal = (torch.einsum("kf,fxyz->kxyz", coefficients, features) + offset[:, None, None, None]).argmax(0)
    found = probe.predict(probe.Planes(coefficients, offset), maps, SHAPE)
    assert (found == literal).float().mean() > 0.999  # ties are broken by rounding


def test_the_regression_finds_classes_that_planes_divide_and_uses_its_part_only(probe: ModuleType) -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn((400, 4), generator=rng)
    labels = (features[:, 0] + 0.5 * features[:, 2] > 0.2).long()
    drawn = [probe.Voxels(features * 5 + 3, labels, torch.ones(400))]
    whole = probe.fit(drawn, 2, slice(None))
    right = (((features * 5 + 3) @ whole.coefficients.T + whole.offset).argmax(1) == labels).float().mean()
    assert right > 0.98
    part = probe.fit(drawn, 2, slice(0, 2))
    assert not part.coefficients[:, 2:].any()
    assert part.coefficients[:, 0].any()


def test_weights_decide_between_classes_that_features_do_not_divide(probe: ModuleType) -> None:
    features, labels = torch.zeros(20, 2), torch.arange(20) % 2
    for favoured in (0, 1):
        weights = torch.where(labels == favoured, 9.0, 1.0)
        planes = probe.fit([probe.Voxels(features, labels, weights)], 2, slice(None))
        assert int(planes.offset.argmax()) == favoured
        shares = planes.offset.softmax(0)
        assert float(shares[favoured]) == pytest.approx(0.9, abs=1e-3)


def test_structures_that_a_case_does_not_have_are_left_out_of_the_mean(probe: ModuleType) -> None:
    true = torch.tensor([0, 1, 1, 0, 0])
    assert probe.mean_dice(torch.tensor([0, 1, 0, 0, 0]), true, 3) == pytest.approx(2 / 3)
    assert probe.mean_dice(torch.tensor([0, 1, 1, 2, 0]), true, 3) == pytest.approx(0.5)


def test_weights_of_another_plan_are_refused(probe: ModuleType, network: nn.Module, tmp_path: Path) -> None:
    weights = {name: weight + 1 for name, weight in network.state_dict().items()}
    file = tmp_path / "weights.pth"
    torch.save({"network_weights": weights}, file)
    again = probe.build(CONFIGURATION, 1, 3, file)
    assert all(torch.equal(weights[name], value) for name, value in again.state_dict().items() if "seg_" not in name)
    torch.save({"network_weights": {name: weight[:1] for name, weight in weights.items()}}, file)
    with pytest.raises(SystemExit, match=r"weights.pth does not fit the plan: encoder\.stages\.0"):
        probe.build(CONFIGURATION, 1, 3, file)
