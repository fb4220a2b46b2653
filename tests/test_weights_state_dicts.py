"""Tensors by name are found wherever they are in a file, and get the names that nnU-Net gives them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_files import equal, network, unique_parameters, written
from torch import Tensor, nn

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.dialects import read_pretrained


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return network()


def renamed(weights: dict[str, Tensor], rename: Callable[[str], str | None]) -> dict[str, Tensor]:
    names = {name: rename(name) for name in weights}
    return {new: weights[old] for old, new in names.items() if new is not None}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.network.", "net.module."])
@pytest.mark.parametrize(
    "keys", [(), ("state_dict",), ("model",), ("model", "state_dict"), ("teacher",), ("whatever",)]
)
def test_a_state_dict_is_found_wherever_it_is_and_loses_its_prefixes(
    tmp_path: Path, model: nn.Module, prefix: str, keys: tuple[str, ...]
) -> None:
    content: Any = renamed(model.state_dict(), lambda name: prefix + name)
    for key in reversed(keys):
        content = {key: content, "epoch": 3}
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert read.kind == "state dict"
    assert equal(read.tensors, unique_parameters(model))
    expected = (f"The prefix '{prefix}' was removed from the names of the tensors.",) if prefix else ()
    assert read.notes == expected


def test_a_prefix_that_nearly_all_names_have_is_removed_and_the_others_are_counted(
    tmp_path: Path, model: nn.Module
) -> None:
    weights = renamed(model.state_dict(), lambda name: f"model.{name}")
    read = read_pretrained(written(tmp_path / "a.pth", {"state_dict": {**weights, "loss.weight": torch.ones(2)}}))
    assert equal(read.tensors, {**unique_parameters(model), "loss.weight": torch.ones(2)})
    (note,) = read.notes
    assert note.endswith("but for 1 that had none (the first is loss.weight).")


def test_a_u_net_among_much_else_loses_its_prefix(tmp_path: Path, model: nn.Module) -> None:
    weights = renamed(model.state_dict(), lambda name: f"network.{name}")
    others = {f"head.{number}": torch.ones(1) for number in range(len(weights))}
    read = read_pretrained(written(tmp_path / "a.pth", {**weights, **others}))
    assert equal(read.tensors, {**unique_parameters(model), **others})


def test_a_prefix_stays_where_two_tensors_would_get_one_name(tmp_path: Path) -> None:
    weights = {**{f"model.a{number}": torch.ones(1) for number in range(20)}, "a3": torch.zeros(1)}
    assert equal(read_pretrained(written(tmp_path / "a.pth", weights)).tensors, weights)


def test_a_part_of_the_network_that_was_compiled_has_its_usual_names(tmp_path: Path) -> None:
    read = read_pretrained(written(tmp_path / "a.pth", {"encoder._orig_mod.stem.weight": torch.ones(1)}))
    assert list(read.tensors) == ["encoder.stem.weight"]


def test_an_encoder_alone_gets_the_name_of_its_part(tmp_path: Path, model: nn.Module) -> None:
    weights = {k.removeprefix("encoder."): v for k, v in model.state_dict().items() if k.startswith("encoder.")}
    read = read_pretrained(written(tmp_path / "a.pth", weights))
    assert equal(read.tensors, {k: v for k, v in unique_parameters(model).items() if k.startswith("encoder.")})
    assert "weights of an encoder alone" in read.notes[0]


def test_the_likeliest_of_several_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    content = {
        "optimizer_state_dict": {"state": {"exp_avg": torch.ones(100)}},
        "teacher": {"a": torch.ones(50)},
        "state_dict": {"b": torch.ones(2)},
        "zzz": {"c": torch.ones(60)},
    }
    read = read_pretrained(written(tmp_path / "a.pth", content))
    assert list(read.tensors) == ["b"]
    assert read.notes == ("The weights were found under 'state_dict'; there are tensors under 'teacher', 'zzz' too.",)
    del content["state_dict"], content["teacher"]
    content["yyy"] = {"d": torch.ones(61)}
    assert list(read_pretrained(written(tmp_path / "a.pth", content)).tensors) == ["d"]


def test_a_lightning_checkpoint_is_read(tmp_path: Path, model: nn.Module) -> None:
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": renamed(model.state_dict(), lambda name: f"net.{name}"),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "hyper_parameters": {"config": argparse.Namespace(rate=0.1)},
    }
    read = read_pretrained(written(tmp_path / "a.ckpt", content))
    assert (read.kind, read.opened) == ("state dict", "restricted")
    assert equal(read.tensors, unique_parameters(model))
    assert read.notes[0] == "Ignored, because it is neither a tensor nor plain data: argparse.Namespace."


def test_a_network_that_was_saved_whole_is_read_for_its_tensors(tmp_path: Path) -> None:
    whole = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Sequential(nn.BatchNorm3d(2), nn.Linear(2, 2, bias=False)))
    for content in (whole, {"model": whole, "epoch": 3}, {"model": nn.DataParallel(whole)}):
        read = read_pretrained(written(tmp_path / "a.pth", content))
        assert (read.kind, read.opened) == ("state dict", "restricted")
        assert equal(read.tensors, {name: value.detach() for name, value in whole.state_dict().items()})


def test_a_dictionary_of_a_type_that_is_not_known_is_read_as_a_dictionary(tmp_path: Path) -> None:
    content = {"state_dict": Attributes(a=torch.ones(1))}
    assert equal(read_pretrained(written(tmp_path / "a.pth", content)).tensors, {"a": torch.ones(1)})


class Attributes(dict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "It holds an empty dictionary."),
        ({"epoch": 3, "args": [1]}, "It holds a dictionary with 'epoch' (int), 'args' (list)."),
        ([torch.ones(1)], "It holds one object of type list."),
        (torch.ones(1), "It holds one object of type Tensor."),
        ({"network_weights": {"a": 3}}, "holds no tensors where weights belong"),
        ({str(n): n for n in range(20)}, "and 8 more"),
        ({0: torch.ones(1)}, "It holds a dictionary with 0 (Tensor)."),
    ],
)
def test_a_file_without_weights_is_refused_with_what_it_holds(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(WeightsError) as raised:
        read_pretrained(written(tmp_path / "a.pth", content))
    assert message in str(raised.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_that_are_not_finite_are_named(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    weights = {"good": torch.ones(2), "bad": torch.tensor([1, value], dtype=dtype), "worse": torch.tensor([value])}
    with pytest.raises(WeightsError, match="holds 2 tensors with NaN or infinite values, the first is bad"):
        read_pretrained(written(tmp_path / "a.pth", weights))


def test_a_tensor_under_its_other_name_only_gets_its_one_name(tmp_path: Path, model: nn.Module) -> None:
    shared = {name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1."): name
              for name in model.state_dict() if "convs" in name}  # fmt: skip
    weights = {other: model.state_dict()[name] for other, name in shared.items()}
    assert not any(".conv." in name or ".norm." in name for name in weights)
    expected = {k: v for k, v in unique_parameters(model).items() if "convs" in k}
    assert equal(read_pretrained(written(tmp_path / "a.pth", {"x": weights})).tensors, expected)
