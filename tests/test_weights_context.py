"""Weights and a context block that only the file's network has, or only the task's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import NnUNetFolders
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from weight_files import task_of, weights_from, write_checkpoint, write_planned, write_pretraining

from nnunet_volf.benchmark.arms import Arm
from nnunet_volf.benchmark.training import load
from nnunet_volf.cli import main
from nnunet_volf.weights.briefing import Briefing, brief, verdict
from nnunet_volf.weights.choices import CARRIED, MISSING, SKIPPED
from nnunet_volf.weights.description import describe, facts
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.matching import Row, match
from nnunet_volf.weights.names import canonical_name
from nnunet_volf.weights.target import task_of_dataset

PLAIN, WITH_BLOCK = task_of(), task_of(context=True)


def rows_of_block(briefing: Briefing) -> list[Row]:
    return [row for row in briefing.match.rows if row.name.startswith("context.")]


def test_a_block_that_both_have_is_carried_over() -> None:
    briefing = brief(weights_from(WITH_BLOCK), WITH_BLOCK)
    assert briefing.fits
    assert briefing.warnings == ()


def test_a_block_that_the_file_has_not_is_new_and_starts_as_identity() -> None:
    briefing = brief(weights_from(PLAIN), WITH_BLOCK)
    rows = rows_of_block(briefing)
    assert {(row.outcome, row.detail, row.value) for row in rows} == {(MISSING, "new, starts as identity", None)}
    whole = sum(row.parameters for row in briefing.match.rows if "seg_layers" not in row.name)
    share = 1 - sum(row.parameters for row in rows) / whole
    assert briefing.code == 3
    assert verdict(briefing, WITH_BLOCK) == f"fits after adapting: {share:.1%} of the network is taken over"
    assert briefing.warnings == (
        "the task's network has a context block, the file's has none: the block is new and starts as identity",
    )


def test_a_block_that_the_task_has_not_is_left_out_and_that_is_said() -> None:
    briefing = brief(weights_from(WITH_BLOCK), PLAIN)
    assert briefing.fits  # nnU-Net passes over what its network has no place for
    assert briefing.match.left
    assert set(briefing.match.left) == {name for name in WITH_BLOCK.shapes if name.startswith("context.")}
    assert briefing.warnings == ("the file's network has a context block, the task's has none: the block is left out",)


def test_what_becomes_of_a_block_is_said_of_tensors_alone_too() -> None:
    bare = dataclasses.replace(weights_from(PLAIN), architecture=None, preparation=None)
    assert brief(bare, WITH_BLOCK).warnings[-1].endswith("the block is new and starts as identity")


@pytest.mark.parametrize("trained", [(), ("encoder",), ("encoder", "decoder")])
def test_whatever_trained_the_encoder_trained_the_block(trained: tuple[str, ...]) -> None:
    pretrained = dataclasses.replace(weights_from(WITH_BLOCK), trained=trained)
    assert {row.outcome for row in rows_of_block(brief(pretrained, WITH_BLOCK))} == {CARRIED}


def test_with_the_encoder_alone_the_block_comes_along() -> None:
    matched = match(weights_from(WITH_BLOCK), WITH_BLOCK, scope="encoder")
    outcomes = {row.name.split(".")[0]: row.outcome for row in matched.rows if "seg_layers" not in row.name}
    assert outcomes == {"encoder": CARRIED, "context": CARRIED, "decoder": SKIPPED}


def test_a_missing_block_counts_against_an_encoder_too() -> None:
    briefing = brief(dataclasses.replace(weights_from(PLAIN), trained=("encoder",)), WITH_BLOCK)
    encoder = sum(row.parameters for row in briefing.match.rows if row.name.startswith("encoder."))
    block = sum(row.parameters for row in rows_of_block(briefing))
    assert briefing.share == pytest.approx(encoder / (encoder + block))


@pytest.mark.parametrize("network", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_weights_adapted_to_a_plan_with_a_block_answer_as_they_did_without(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str], network: str
) -> None:
    write_planned(nnunet_folders.preprocessed, network=network, context=True)
    file, fitted = write_checkpoint(tmp_path / "w.pth", network=network, labels=("organ",)), tmp_path / "fitted.pth"
    assert main(["weights", "adapt", str(file), "-d", "7", "-o", str(fitted)]) == 0
    assert "new, starts as identity" in capsys.readouterr().out
    with_block = task_of_dataset("7", "nnUNetPlans", "3d_fullres").network(seed=5)
    load_pretrained_weights(with_block, str(fitted))  # nnU-Net's own
    plain = task_of(network=network).network()
    stored = torch.load(file, weights_only=True)["network_weights"]
    plain.load_state_dict(stored)
    heads = {name: tensor for name, tensor in stored.items() if ".seg_layers." in name}
    with_block.load_state_dict(heads, strict=False)
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(5))
    for ours, theirs in zip(with_block.eval()(image), plain.eval()(image), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert main(["weights", "check", str(fitted), "-d", "7"]) == 0


def test_a_file_with_a_block_is_described_exported_and_planned_with(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_pretraining(tmp_path / "w.pth", "slem", context=True)
    pretrained = read_pretrained(file)
    assert "network       PlainConvUNet with a context block, 3 stages" in describe(pretrained).splitlines()
    assert facts(pretrained)["parameters"].keys() == {"encoder", "context", "decoder", "heads"}
    assert main(["weights", "export", str(file), "-o", str(tmp_path / "out.pth")]) == 0
    assert "need nnunet-volf installed beside nnU-Net" in (tmp_path / "out.md").read_text(encoding="utf-8")
    write_planned(nnunet_folders.preprocessed)
    assert main(["weights", "plan", str(tmp_path / "out.pth"), "-d", "7", "--as", "Like"]) == 0
    said = capsys.readouterr().out
    assert "fits: nnU-Net takes the encoder of Dataset007_Liver's network from this file as it is" in said
    assert said.splitlines()[-1].startswith("next: nnUNetv2_train 7 3d_fullres 0 -p Like")
    assert task_of_dataset("7", "Like", "3d_fullres").shapes.keys() == WITH_BLOCK.shapes.keys()


def test_an_arm_of_a_benchmark_that_starts_from_an_encoder_has_the_block_too(tmp_path: Path) -> None:
    file = write_pretraining(tmp_path / "w.pth", "slem", context=True)
    network = WITH_BLOCK.network(seed=5)
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load(SimpleNamespace(network=network), Arm("slem", weights=str(file), scope="encoder"))
    stored = torch.load(file, weights_only=True)["network_weights"]
    for name, tensor in network.state_dict().items():
        of_encoder = canonical_name(name).startswith(("encoder.", "context."))
        assert torch.equal(tensor, stored[name] if of_encoder else initial[name]), name
