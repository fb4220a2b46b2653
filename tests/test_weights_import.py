"""`weights import` writes what nnU-Net and every command here take, and loses nothing on the way."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from malicious import Calls
from pretrained_files import ARCHITECTURE, network, nnssl_file
from torch import Tensor, nn
from training import make_trainer

from nnunet_volf.cli import main
from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.architectures import check_buildable
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.importing import default_output, import_weights
from nnunet_volf.weights.pretrained import Architecture, Pretrained

UNET = "dynamic_network_architectures.architectures.unet"

OF_THE_FILE = ("path", "opened", "tensors", "stored", "notes", "plans")


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def same_tensors(one: Pretrained, other: Pretrained) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors
    )


def same_description(one: Pretrained, other: Pretrained) -> bool:
    kept = [name for name in Pretrained.__dataclass_fields__ if name not in OF_THE_FILE]
    differing = {name: (getattr(one, name), getattr(other, name)) for name in kept
                 if getattr(one, name) != getattr(other, name)}  # fmt: skip
    assert not differing
    return True


def loads_in_nnunet(path: Path, into: nn.Module) -> dict[str, Tensor]:
    """Load a file as ``nnUNetv2_train -pretrained_weights`` does, and return what the network then holds."""
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    load_pretrained_weights(into, str(path))
    return into.state_dict()


def test_an_nnssl_checkpoint_is_taken_by_nnunet_as_it_is(tmp_path: Path) -> None:
    source = nnssl_file(tmp_path / "openmind.pth", {f"module.{k}": v for k, v in network().state_dict().items()})
    imported = import_weights(source, tmp_path / "out.pth")
    before = read_pretrained(source)
    assert (imported.network_known, imported.missing) == (True, ())
    assert same_tensors(before, imported.weights)
    assert same_description(before, imported.weights)
    assert imported.weights.opened == "plain"
    assert imported.weights.notes == (*before.notes, "Imported from openmind.pth.")
    other = network(heads=7, seed=8)
    loaded, expected = loads_in_nnunet(tmp_path / "out.pth", other), network().state_dict()
    assert loaded.keys() == expected.keys()
    for name in loaded:
        assert torch.equal(loaded[name], expected[name]) is not (".seg_layers." in name), name


def test_a_stock_checkpoint_keeps_its_plans(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    trainer = make_trainer("nnUNetPlans", trainer="nnUNetTrainer")
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "a.pth"))
    imported = import_weights(tmp_path / "a.pth", tmp_path / "out.pth")
    before = read_pretrained(tmp_path / "a.pth")
    assert before.opened == "restricted"
    assert imported.weights.opened == "plain"
    assert same_tensors(before, imported.weights)
    assert same_description(before, imported.weights)
    assert imported.weights.plans == before.plans
    assert imported.missing == ()
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    assert content.keys() == {"network_weights", "trainer_name", "current_epoch", "init_args", "nnunet_volf"}
    assert content["network_weights"].keys() == trainer.network.state_dict().keys()


def test_an_encoder_alone_is_imported_and_said_to_lack_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {k: v for k, v in network().state_dict().items() if k.startswith("encoder.")}
    source = nnssl_file(tmp_path / "a.pth", {**weights, "projector.weight": torch.ones(3)})
    assert main(["weights", "import", str(source)]) == 0
    out = capsys.readouterr().out
    output = tmp_path / "a-imported.pth"
    assert f"written: {output}\n" in out
    assert "names that nnU-Net asks for, the first is decoder." in out
    assert out.endswith(f"next: nnunet-volf weights check {output} -d DATASET\n")
    assert same_tensors(read_pretrained(source), read_pretrained(output))
    stored = torch.load(output, weights_only=True)["network_weights"]
    assert "decoder.encoder.stem.convs.0.all_modules.0.weight" in stored, "what nnU-Net would look for"


def test_names_of_one_tensor_share_its_memory_and_nothing_else_comes_along(tmp_path: Path) -> None:
    whole = torch.randn(1_000_000)
    weights = {name: whole[: value.numel()].view(value.shape) for name, value in network().state_dict().items()}
    source = nnssl_file(tmp_path / "a.pth", weights)
    import_weights(source, tmp_path / "out.pth")
    parameters = sum(value.numel() for value in network().parameters())
    assert (tmp_path / "out.pth").stat().st_size < 4 * parameters + 100_000
    assert source.stat().st_size > 4_000_000


def test_a_state_dict_is_imported_under_its_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "a.ckpt", {"state_dict": {f"net.{k}": v for k, v in network().state_dict().items()}})
    assert main(["weights", "import", str(source), "-o", str(tmp_path / "sub" / "b.pth")]) == 0
    imported = read_pretrained(tmp_path / "sub" / "b.pth")
    assert same_tensors(read_pretrained(source), imported)
    assert imported.kind == "state dict"
    assert "-pretrained_weights takes it" not in capsys.readouterr().out, "its network is not known"


def test_objects_in_a_file_do_not_come_along(tmp_path: Path) -> None:
    content = {
        "network_weights": {"encoder.stem.x": torch.ones(1)},
        "nnunet_volf": {
            "settings": {"a": argparse.Namespace(x=1), "b": [1, argparse.Namespace()], "c": torch.ones(2)},
            "data": {"cases": 3},
        },
    }
    imported = import_weights(written(tmp_path / "a.pth", content), tmp_path / "out.pth")
    assert imported.weights.settings == {"b": [1], "c": [1.0, 1.0]}
    assert imported.weights.data == {"cases": 3}
    assert torch.load(tmp_path / "out.pth", weights_only=True)


def test_importing_twice_changes_nothing_more(tmp_path: Path) -> None:
    source = nnssl_file(tmp_path / "a.pth", network().state_dict())
    first = import_weights(source, tmp_path / "b.pth").weights
    second = import_weights(tmp_path / "b.pth", tmp_path / "c.pth").weights
    assert same_tensors(first, second)
    assert same_description(first, second)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    source = nnssl_file(tmp_path / "a.pth", network().state_dict())
    (tmp_path / "a-imported.pth").write_bytes(b"mine")
    with pytest.raises(WeightsError, match=r"a-imported\.pth exists\. Choose another name with -o"):
        import_weights(source, default_output(source))
    assert (tmp_path / "a-imported.pth").read_bytes() == b"mine"
    with pytest.raises(WeightsError, match="exists"):
        import_weights(source, source)


def test_a_failed_import_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = nnssl_file(tmp_path / "a.pth", network().state_dict())

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        import_weights(source, tmp_path / "b.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_a_malicious_file_is_not_imported(tmp_path: Path) -> None:
    witness = tmp_path / "it-was-run"
    source = written(tmp_path / "a.pth", {"w": torch.ones(1), "x": Calls(subprocess.call, ["touch", str(witness)])})
    assert main(["weights", "import", str(source)]) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pth"]


# A class path in a plan is imported and called by nnU-Net; here only known ones are.


def described(
    class_name: Any = ARCHITECTURE["network_class_name"], needs: Any = None, **arguments: Any
) -> Architecture:
    needs = ARCHITECTURE["_kw_requires_import"] if needs is None else needs
    return Architecture(class_name, {**ARCHITECTURE["arch_kwargs"], **arguments}, tuple(needs))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (described("subprocess.Popen"), "The network class subprocess.Popen is not one of nnU-Net's or ours"),
        (described("os.system"), "is not one of nnU-Net's or ours"),
        (described("dynamic_network_architectures.architectures.unet:x"), "is not one of nnU-Net's or ours"),
        (described("nnunet_volf.networks_of_mine.Net"), "is not one of nnU-Net's or ours"),
        (described(conv_op="os.system"), "conv_op = 'os.system', which is no layer of torch.nn"),
        (described(conv_op="mypackage.Conv3d"), "conv_op = 'mypackage.Conv3d', which is no layer of torch.nn"),
        (described(nonlin=print), "which is no layer of torch.nn"),
        (described(norm_op=["torch.nn.Conv3d"]), "which is no layer of torch.nn"),
        (described(needs=["conv_op", "n_stages"]), "The file wants 'n_stages' imported"),
        (described(n_stages=10**9), "a network of 1000000000 stages"),
        (described(n_stages="6"), "a network of '6' stages"),
        (described(f"{UNET}.torch.hub.load"), "is not one of nnU-Net's or ours"),  # through what a module imports
        (described(f"{UNET}.UNetDecoder"), "is not one of nnU-Net's or ours"),
        (described("nnunet_volf.networks.pct_net.torch.hub.load"), "is not one of nnU-Net's or ours"),
        (described("nnunet_volf.networks.import_module"), "is not one of nnU-Net's or ours"),
        (described(n_conv_per_stage_decoder=[10**9, 1]), "n_conv_per_stage_decoder = [1000000000, 1]"),
        (described(n_blocks_per_stage=10**9), "n_blocks_per_stage = 1000000000"),
        (described(kernel_sizes=[[3, 3, 3]] * 10**5), "kernel_sizes = [[3, 3, 3], "),
        (described(features_per_stage=[10**9] * 3), "features_per_stage = [1000000000, "),
    ],
)
def test_networks_that_could_be_anything_are_not_built(architecture: Architecture, message: str) -> None:
    with pytest.raises(WeightsError) as raised:
        check_buildable(architecture)
    assert message in str(raised.value)


def test_networks_of_nnunets_are_built() -> None:
    check_buildable(described())
    check_buildable(described(f"{UNET}.PlainConvUNet"))
    check_buildable(described("dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"))
    check_buildable(described("nnunet_volf.networks.PCTNet"))
    check_buildable(
        described(conv_op="torch.nn.Conv2d", norm_op="torch.nn.BatchNorm2d", dropout_op="torch.nn.Dropout2d")
    )


@pytest.mark.parametrize("place", ["subprocess.Popen", f"{UNET}.torch.hub.load"])
def test_a_file_whose_plans_name_a_program_runs_nothing(tmp_path: Path, place: str) -> None:
    witness, repository = tmp_path / "it-was-run", tmp_path / "hub"
    repository.mkdir()
    (repository / "hubconf.py").write_text(f"open({str(witness)!r}, 'w').close()\n", encoding="utf-8")
    of_hub = {"repo_or_dir": str(repository), "model": "x", "source": "local"}
    arguments = of_hub if place.endswith("load") else {"args": ["touch", str(witness)]}
    architecture = {"network_class_name": place, "arch_kwargs": arguments, "_kw_requires_import": []}
    configuration = {
        "spacing": [1, 1, 1], "patch_size": [8, 8, 8], "normalization_schemes": ["x"], "architecture": architecture,
    }  # fmt: skip
    plans = {"dataset_name": "D", "plans_name": "P", "configurations": {"c": configuration}}
    init = {"plans": plans, "configuration": "c", "dataset_json": {"channel_names": {"0": "CT"}}}
    weights = {"encoder.stem.x": torch.ones(1)}
    source = written(tmp_path / "a.pth", {"network_weights": weights, "init_args": init})
    imported = import_weights(source, tmp_path / "b.pth")
    assert not witness.exists()
    assert any(f"The network class {place} is not one of" in note for note in imported.weights.notes)
    assert imported.weights.architecture is None
    assert place.encode() not in (tmp_path / "b.pth").read_bytes().replace(f"network class {place}".encode(), b"")
    assert imported.weights.preparation == read_pretrained(source).preparation
    assert main(["weights", "export", str(source), "-o", str(tmp_path / "c.pth")]) == 2
    assert not witness.exists()


def test_a_network_that_can_not_be_built_is_said_to_be_so(tmp_path: Path) -> None:
    plan = {"architecture_plans": {"arch_class_name": "ResidualEncoderUNet", "arch_kwargs": {"n_stages": 3}}}
    source = nnssl_file(tmp_path / "a.pth", network().state_dict(), **plan)
    imported = import_weights(source, tmp_path / "b.pth")
    assert not imported.network_known
    assert any("could not be built (TypeError" in note for note in imported.weights.notes)
    assert same_tensors(read_pretrained(source), imported.weights)


def test_heads_are_not_missed_since_no_task_takes_them(tmp_path: Path) -> None:
    weights = {name: value for name, value in network().state_dict().items() if ".seg_layers." not in name}
    imported = import_weights(nnssl_file(tmp_path / "a.pth", weights), tmp_path / "b.pth")
    assert (imported.network_known, imported.missing) == (True, ())
