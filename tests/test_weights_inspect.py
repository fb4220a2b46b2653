"""`weights inspect` says what a file is, for people and for programs, and cannot be led astray by the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from malicious import Calls
from pretrained_files import ARCHITECTURE, network, nnssl_file
from torch import Tensor
from training import make_trainer, with_settings

from nnunet_volf.cli import main
from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.description import describe, facts, parameters_by_part
from nnunet_volf.weights.dialects import read_pretrained


def lines(path: Path) -> dict[str, str]:
    """Return the description of a file by label; a label that comes twice has its lines joined."""
    found: dict[str, str] = {}
    for line in describe(read_pretrained(path)).splitlines():
        label, value = line[:13].strip(), line[14:]
        found[label] = f"{found[label]} | {value}" if label in found else value
    return found


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_a_pretraining_of_ours_is_described(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    trainer = make_trainer(with_settings(flip=0.25, scheme="boxes"))
    trainer.initialize()
    trainer.current_epoch = 1
    trainer.save_checkpoint(str(tmp_path / "a.pth"))
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    content["nnunet_volf"]["data"] = {"cases": 5, "held_out": 1, "content": "0123456789abcdef0123456789abcdef"}
    content["nnunet_volf"]["versions"] = {"python": "3.11.2", "torch": "2.15.0"}
    shown = lines(written(tmp_path / "a.pth", content))
    assert shown["a.pth"] == "nnunet-volf, volume fusion, nnUNetTrainerVolF"
    assert shown["opened"].startswith("safely: tensors and plain types only")
    assert shown["trained on"] == "Dataset901_Phantom, 3d_fullres, Test, 2 epochs"
    assert shown["network"] == "PlainConvUNet, 3 stages"
    assert shown["features"] == "4, 8, 8"
    assert shown["kernels"] == "3x3x3, 3x3x3, 3x3x3"
    assert shown["strides"] == "1x1x1, 2x2x2, 2x2x2"
    assert shown["channels"] == "1: phantom0"
    assert shown["heads"].startswith("5 outputs")
    assert "patch 16x24x20, ZScoreNormalization" in shown["prepared"]
    assert "epochs 2" in shown["settings"]
    assert 'scheme "boxes"' in shown["settings"]
    assert "flip 0.25" in shown["settings"]
    assert "coefficients" not in shown["settings"], "only what differs from the defaults"
    assert shown["data"] == "5 cases, 1 held out, content 0123456789abcdef…"
    assert shown["versions"] == "python 3.11.2, torch 2.15.0"
    total = sum(p.numel() for p in trainer.network.parameters())
    assert shown["parameters"].startswith(f"{total:,}: encoder ")


def test_openmind_is_described_by_what_its_file_says(tmp_path: Path) -> None:
    shown = lines(nnssl_file(tmp_path / "a.pth", network().state_dict()))
    assert shown["a.pth"] == "nnssl, VolumeFusionTrainer"
    assert shown["trained on"] == "Dataset745_OpenMind, onemmiso, 1000 epochs"
    assert shown["network"] == "ResidualEncoderUNet, 3 stages"
    assert shown["kernels"] == "1x3x3, 3x3x3, 3x3x3"
    assert shown["channels"] == "1: unnamed"
    assert shown["prepared"] == "1x1x1 mm, patch 160x160x160, ZScoreNormalization"
    assert shown["cite"] == "Isensee et al. (2024). | @article{wang2023}"
    assert "settings" not in shown
    assert "data" not in shown


def test_what_a_state_dict_does_not_say_is_said_to_be_missing(tmp_path: Path) -> None:
    weights = {f"module.{name}": value for name, value in network(inputs=4).state_dict().items()}
    shown = lines(written(tmp_path / "a.pth", weights))
    assert shown["a.pth"] == "tensors by name, and no word on where they come from"
    assert shown["network"] == "not described, 3 stages"
    assert shown["channels"] == "4"
    assert shown["prepared"] == "not recorded: ask for spacing and normalisation before you use it"
    assert shown["note"] == "The prefix 'module.' was removed from the names of the tensors."
    assert "trained on" not in shown


def test_parameters_are_counted_by_part_and_once_each() -> None:
    model = network()
    expected: dict[str, int] = {}
    for name, value in model.named_parameters():
        part = "heads" if "seg_layers" in name else name.split(".")[0]
        expected[part] = expected.get(part, 0) + value.numel()
    from nnunet_volf.weights.names import canonical

    tensors: dict[str, Tensor] = {**canonical(model.state_dict()), "projector.x": torch.ones(7)}
    assert parameters_by_part(tensors) == {**expected, "other": 7}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda: {"w": torch.ones(1)}, "safely: tensors and plain types only"),
        (lambda: {"w": torch.ones(1), "x": torch.device("cpu")}, "safely: nothing in it was run"),
    ],
)
def test_it_says_how_the_file_was_opened(tmp_path: Path, how: Callable[[], Any], expected: str) -> None:
    assert lines(written(tmp_path / "a.pth", how()))["opened"].startswith(expected)


def test_the_command_prints_the_description_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = nnssl_file(tmp_path / "my weights.pth", network().state_dict())
    assert main(["weights", "inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(describe(read_pretrained(path)))
    assert out.endswith(f"\nnext: nnunet-volf weights check '{path}' -d DATASET\n")


def test_the_same_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = nnssl_file(tmp_path / "a.pth", network().state_dict())
    assert main(["weights", "inspect", str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads(json.dumps(facts(read_pretrained(path))))
    assert data["preparation"]["spacing"] == [1.0, 1.0, 1.0]
    assert data["network"]["arguments"] == ARCHITECTURE["arch_kwargs"]
    assert data["tensors"]["encoder.stem.convs.0.conv.weight"] == {"shape": [4, 1, 1, 3, 3], "type": "float32"}
    assert data["stages"] == [
        {"features": f, "kernel": k} for f, k in zip([4, 6, 8], [[1, 3, 3], *[[3] * 3] * 2], strict=True)
    ]


def test_trust_is_needed_to_run_and_said_to_have_been_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    witness = tmp_path / "it-was-run"
    path = written(tmp_path / "a.pth", {"w": torch.ones(1), "x": Calls(os.mkdir, str(witness))})
    assert main(["weights", "inspect", str(path)]) == 2
    assert "is refused: it calls " in capsys.readouterr().err
    assert not witness.exists()
    assert main(["weights", "inspect", str(path), "--trust"]) == 0
    assert "with --trust: code that it asks for was run" in capsys.readouterr().out
    assert witness.exists()


def test_help_loads_no_torch() -> None:
    import subprocess
    import sys

    for action in ("inspect", "import"):
        code = (
            "import sys\nfrom nnunet_volf.cli import main\n"
            f"try: main(['weights', '{action}', '--help'])\nexcept SystemExit: assert 'torch' not in sys.modules\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


# A file that lies about itself.

HOSTILE: list[Any] = [
    None,
    3,
    "x",
    "\x1b[2J\nopened  safely",
    [],
    [None],
    {},
    {"a": []},
    torch.ones(2),
    float("nan"),
    [float("nan")],
    10**30,
    b"x",
]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
@pytest.mark.parametrize(
    "place",
    [
        "trainer_name",
        "current_epoch",
        "init_args",
        "init_args.plans",
        "init_args.configuration",
        "init_args.dataset_json",
        "init_args.dataset_json.channel_names",
        "init_args.plans.plans_name",
        "init_args.plans.dataset_name",
        "init_args.plans.configurations",
        "init_args.plans.configurations.c",
        "init_args.plans.configurations.c.spacing",
        "init_args.plans.configurations.c.patch_size",
        "init_args.plans.configurations.c.normalization_schemes",
        "init_args.plans.configurations.c.architecture",
        "init_args.plans.configurations.c.architecture.arch_kwargs",
        "init_args.plans.configurations.c.architecture.arch_kwargs.strides",
        "init_args.plans.configurations.c.architecture.network_class_name",
        "init_args.plans.configurations.c.architecture._kw_requires_import",
        "init_args.plans.foreground_intensity_properties_per_channel",
        "nnunet_volf",
        "nnunet_volf.method",
        "nnunet_volf.settings",
        "nnunet_volf.settings.epochs",
        "nnunet_volf.data",
        "nnunet_volf.data.cases",
        "nnunet_volf.data.content",
        "nnunet_volf.versions",
        "nnunet_volf.versions.torch",
        "nnunet_volf.citations",
        "nnunet_volf.pretrained",
        "nnunet_volf.pretrained.preparation",
        "nnunet_volf.pretrained.preparation.spacing",
        "nnunet_volf.pretrained.preparation.intensities",
        "nnunet_volf.pretrained.architecture",
        "nnunet_volf.pretrained.architecture.arguments",
        "nnunet_volf.pretrained.notes",
        "nnunet_volf.pretrained.kind",
        "nnunet_volf.pretrained.epochs",
        "nnssl_adaptation_plan",
        "nnssl_adaptation_plan.architecture_plans.arch_kwargs",
        "nnssl_adaptation_plan.pretrain_plan.configurations.onemmiso.spacing",
        "nnssl_adaptation_plan.pretrain_num_input_channels",
        "nnssl_adaptation_plan.key_to_stem",
        "citations",
    ],
)
def test_whatever_a_file_says_of_itself_it_is_described(tmp_path: Path, place: str, value: Any) -> None:
    content = self_description(nnssl=place.startswith(("nnssl", "citations")))
    *parents, last = place.split(".")
    inner = content
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    pretrained = read_pretrained(written(tmp_path / "a.pth", content))
    shown = describe(pretrained)
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
    assert sum(line.startswith("opened ") for line in shown.splitlines()) == 1
    json.dumps(facts(pretrained), default=str)


def self_description(nnssl: bool = False) -> dict[str, Any]:
    from pretrained_files import adaptation_plan

    content: dict[str, Any] = {"network_weights": {"encoder.stem.convs.0.conv.weight": torch.ones(2, 1, 3, 3, 3)}}
    if nnssl:
        return {**content, "nnssl_adaptation_plan": adaptation_plan(), "citations": []}
    configuration = {
        "spacing": [1, 1],
        "patch_size": [8, 8],
        "normalization_schemes": ["x"],
        "architecture": architecture(),
    }
    plans = {
        "plans_name": "P",
        "dataset_name": "D",
        "configurations": {"c": configuration},
        "foreground_intensity_properties_per_channel": {"0": {"mean": 1.0}},
    }
    preparation = {"channels": ["a"], "normalization": ["x"], "spacing": [1], "patch": [1], "intensities": []}
    record = {
        "kind": "nnssl", "epochs": 3, "notes": [], "preparation": preparation,
        "architecture": {"class_name": "a.B", "arguments": {}, "needs_import": []},
    }  # fmt: skip
    return {
        **content,
        "trainer_name": "T",
        "current_epoch": 1,
        "init_args": {"plans": plans, "configuration": "c", "dataset_json": {"channel_names": {"0": "CT"}}},
        "nnunet_volf": {
            "method": "volume fusion",
            "settings": {"epochs": 3},
            "data": {"cases": 3, "content": "abc"},
            "versions": {"torch": "2"},
            "citations": [],
            "pretrained": record,
        },
    }


def architecture() -> dict[str, Any]:
    return {
        "network_class_name": ARCHITECTURE["network_class_name"],
        "arch_kwargs": {"n_stages": 2, "strides": [[1, 1], [2, 2]]},
        "_kw_requires_import": ["conv_op"],
    }


def test_data_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content = self_description()
    content["nnunet_volf"]["settings"]["again"] = content["nnunet_volf"]["settings"]
    with pytest.raises(WeightsError, match="by data that holds itself"):
        read_pretrained(written(tmp_path / "a.pth", content))
    content = self_description()
    kwargs = content["init_args"]["plans"]["configurations"]["c"]["architecture"]["arch_kwargs"]
    kwargs["again"] = kwargs
    with pytest.raises(WeightsError, match="by data that holds itself"):
        read_pretrained(written(tmp_path / "a.pth", content))
