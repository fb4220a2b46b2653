"""Weights of a pretraining that left the decoder as it was initialised: what the tools make of them and say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from training import change_plans, make_trainer
from weight_files import task_of, weights_from, write_planned, write_pretraining

from nnunet_volf.cli import main
from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.weights.briefing import Briefing, brief, next_command, verdict
from nnunet_volf.weights.choices import ADAPTED, CARRIED, HEAD, SKIPPED, UNTRAINED
from nnunet_volf.weights.citations import OF_METHODS
from nnunet_volf.weights.description import describe, facts
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.matching import match
from nnunet_volf.weights.names import canonical_name, is_head
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.table import module_table, tensor_table
from nnunet_volf.weights.target import Task, task_of_dataset
from nnunet_volf.weights.trained import encoder_only, parts_in, say_trained, was_trained

ENCODER_METHODS = [name for name, method in METHODS.items() if not method.whole_network]


def encoder_from(task: Task) -> Pretrained:
    return dataclasses.replace(weights_from(task), trained=("encoder",))


def outcomes(briefing: Briefing) -> dict[str, set[str]]:
    """The outcomes of the tensors of each part."""
    found: dict[str, set[str]] = {}
    for row in briefing.match.rows:
        found.setdefault("heads" if is_head(row.name) else row.name.split(".")[0], set()).add(row.outcome)
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["weights", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


# ----------------------------------------------------------------------------------- which parts were trained


@pytest.mark.parametrize(
    ("trained", "name", "expected"),
    [
        ((), "decoder.stages.0.convs.0.conv.weight", True),
        (("encoder", "decoder"), "decoder.stages.0.convs.0.conv.weight", True),
        (("encoder",), "encoder.stages.0.0.convs.0.conv.weight", True),
        (("encoder",), "decoder.stages.0.convs.0.conv.weight", False),
        (("encoder",), "context.fuse.weight", True),  # between the two: what trains the encoder trains it
        (("decoder",), "encoder.stages.0.0.convs.0.conv.weight", False),
    ],
)
def test_a_tensor_was_trained_if_its_part_was_or_nothing_is_said(
    trained: tuple[str, ...], name: str, expected: bool
) -> None:
    assert was_trained(name, trained) == expected


def test_only_parts_that_a_network_has_are_believed() -> None:
    assert parts_in(("decoder", "encoder")) == ("encoder", "decoder")
    assert parts_in(("projector",)) == ()
    assert parts_in(()) == ()


def test_what_was_not_trained_is_said_with_what_was() -> None:
    assert say_trained(()) == ""
    assert say_trained(("encoder", "decoder")) == "encoder and decoder"
    assert say_trained(("encoder",)) == "encoder; decoder as initialised"


@pytest.mark.parametrize("name", METHODS)
def test_a_file_says_what_its_method_trains(tmp_path: Path, name: str) -> None:
    pretrained = read_pretrained(write_pretraining(tmp_path / "w.pth", name))
    assert pretrained.trained == METHODS[name].transfers
    assert encoder_only(pretrained.trained) == (name in ENCODER_METHODS)


# ----------------------------------------------------------------------------------------------- check and brief


@pytest.mark.parametrize("network", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_a_decoder_that_was_not_trained_is_an_outcome_of_its_own(network: str) -> None:
    task = task_of(network=network)
    briefing = brief(encoder_from(task), task)
    assert outcomes(briefing) == {"encoder": {CARRIED}, "decoder": {UNTRAINED}, "heads": {HEAD}}
    assert all(row.value is None for row in briefing.match.rows if row.outcome == UNTRAINED)


def test_the_verdict_counts_what_was_trained() -> None:
    task = task_of()
    briefing = brief(encoder_from(task), task)
    assert (briefing.code, briefing.fits, briefing.share) == (0, True, 1)
    assert verdict(briefing, task) == (
        "fits: nnU-Net takes the encoder of Dataset007_Liver's network from this file as it is; the decoder, which was "
        "not trained, starts as initialised"
    )
    assert next_command(briefing, Path("w.pth"), task).startswith("nnUNetv2_train 7 3d_fullres 0 -p nnUNetPlans -tr")


def test_the_share_of_the_network_counts_all_but_the_heads() -> None:
    task = task_of()
    matched = match(encoder_from(task), task)
    parameters = {part: sum(r.parameters for r in matched.rows if r.name.startswith(part)) for part in ("enc", "dec")}
    heads = sum(row.parameters for row in matched.rows if is_head(row.name))
    assert matched.share(CARRIED) == 1
    expected = parameters["enc"] / (parameters["enc"] + parameters["dec"] - heads)
    assert matched.share_of_network(CARRIED) == pytest.approx(expected)
    assert matched.share_of_network(UNTRAINED) == pytest.approx(1 - expected)


def test_an_encoder_for_other_channels_is_adapted_and_the_decoder_is_not_spoken_of() -> None:
    task = task_of(channels=("T1", "T2"))
    briefing = brief(encoder_from(task_of()), task)
    assert briefing.code == 3
    assert outcomes(briefing)["encoder"] == {CARRIED, ADAPTED}
    assert verdict(briefing, task) == (
        "fits after adapting: 100.0% of the encoder is taken over; the decoder, which was not trained, starts as "
        "initialised"
    )
    assert "Adapted, 100.0% of the encoder is taken over: nnunet-volf weights adapt" in briefing.problem


def test_a_decoder_of_another_depth_does_not_make_an_encoder_fit_less() -> None:
    task = task_of(features=(4, 6, 8, 8))
    briefing = brief(encoder_from(task_of()), task)
    assert outcomes(briefing)["decoder"] == {UNTRAINED}
    assert all(name.startswith("encoder.") for name in briefing.match.left)
    shared = sum(row.parameters for row in briefing.match.rows if row.outcome == CARRIED)
    whole = sum(row.parameters for row in briefing.match.rows if row.name.startswith("encoder."))
    assert briefing.share == pytest.approx(shared / whole)


def test_an_encoder_that_does_not_fit_fits_not_at_all_whatever_its_decoder() -> None:
    task = task_of(features=(16, 18, 20))
    pretrained = dataclasses.replace(encoder_from(task_of()), method=METHODS["voco"].label)
    briefing = brief(pretrained, task)
    assert briefing.code == 4
    assert outcomes(briefing)["encoder"] == {SKIPPED}
    assert next_command(briefing, Path("w.pth"), task) == (
        "nnunet-volf pretrain FOLDER --for 7 -p nnUNetPlans -c 3d_fullres --pretext voco"
    )


def test_the_tables_have_a_column_for_it_where_it_occurs() -> None:
    task = task_of()
    lines = module_table(brief(encoder_from(task), task).match).splitlines()
    assert lines[0].split("  ")[-1].strip() == "not trained"
    by_module = {line.split()[0]: line for line in lines}
    assert by_module["encoder.stages.0"].split()[2:] == ["100", "%", "-", "-", "-", "-"]
    assert by_module["decoder.stages.0"].split()[2:8] == ["-", "-", "-", "-", "100", "%"]
    assert by_module["decoder.stages.0"].endswith("starts as initialised")
    assert by_module["heads"].endswith("new: they belong to the task")
    assert "not trained" not in module_table(brief(weights_from(task), task).match)
    tensors = tensor_table(brief(encoder_from(task), task).match).splitlines()
    assert next(t for t in tensors if t.startswith("decoder.transpconvs.0.weight")).endswith(
        "not trained  starts as initialised"
    )


def test_the_lines_say_once_that_only_the_encoder_was_trained() -> None:
    task = task_of()
    said = "only its encoder was trained; its decoder is as it was initialised, as in training from scratch"
    assert brief(encoder_from(task), task).lines.count(said) == 1
    assert said not in brief(weights_from(task), task).lines
    assert said not in brief(dataclasses.replace(weights_from(task), trained=("encoder", "decoder")), task).lines


def test_the_command_check_ends_with_0_and_the_training(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    code, said = run(capsys, "check", write_pretraining(tmp_path / "w.pth", "voco"), "-d", 7)
    assert code == 0
    assert said.startswith("w.pth: nnunet-volf, volume contrast, nnUNetTrainerVoCo\n")
    assert "only its encoder was trained" in said
    assert said.splitlines()[-1].startswith("next: nnUNetv2_train 7 3d_fullres 0 -p nnUNetPlans -tr")


# ---------------------------------------------------------------------------------------------------------- adapt


@pytest.mark.parametrize("target", [{"channels": ("T1", "T2")}, {"features": (4, 6, 8, 8)}, {"dimensions": 2}])
def test_what_is_adapted_has_the_encoder_and_the_tasks_own_initial_decoder(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: dict[str, Any]
) -> None:
    write_planned(nnunet_folders.preprocessed, **target)
    configuration = "2d" if "dimensions" in target else "3d_fullres"
    file, fitted = write_pretraining(tmp_path / "w.pth", "voco"), tmp_path / "fitted.pth"
    code, said = run(capsys, "adapt", file, "-d", 7, "-c", configuration, "--seed", 3, "-o", fitted)
    assert code == 0
    task = task_of_dataset("7", "nnUNetPlans", configuration)
    initial, network = task.network(seed=3).state_dict(), task.network(seed=99)
    load_pretrained_weights(network, str(fitted))  # nnU-Net's own
    kept = {name: tensor for name, tensor in network.state_dict().items() if not is_head(name)}
    for name, tensor in kept.items():
        if canonical_name(name).startswith("decoder."):
            assert torch.equal(tensor, initial[name]), name
    deepest = next(name for name in kept if name.startswith("encoder.stages.1.") and name.endswith("conv.weight"))
    assert not torch.equal(kept[deepest], initial[deepest])
    matched = match(read_pretrained(file), task)
    share = matched.share_of_network(CARRIED, ADAPTED)
    assert share < 1
    assert f"written: {fitted}; {share:.1%} of the network from w.pth, the rest initialised anew" in said
    after = read_pretrained(fitted)
    assert after.trained == ("encoder",)
    assert f"{share:.1%} of the network is pretrained, the rest is initialised anew" in after.notes[-1]
    assert main(["weights", "check", str(fitted), "-d", "7", "-c", configuration]) == 0


def test_an_encoder_taken_from_whole_weights_is_then_all_that_was_trained(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    file = write_pretraining(tmp_path / "w.pth", "volf")
    code, _ = run(capsys, "adapt", file, "-d", 7, "--scope", "encoder", "-o", tmp_path / "encoder.pth")
    assert code == 0
    assert read_pretrained(tmp_path / "encoder.pth").trained == ("encoder",)


# ------------------------------------------------------------------------------------- inspect, import and export


def test_inspect_says_method_parts_and_settings_that_differ_from_the_methods_defaults(tmp_path: Path) -> None:
    pretrained = read_pretrained(write_pretraining(tmp_path / "w.pth", "mae"))
    said = describe(pretrained).splitlines()
    assert said[0].endswith("nnunet-volf, masked reconstruction, nnUNetTrainerMAE")
    assert "trained       encoder and decoder" in said
    assert "settings      epochs 5" in said
    assert facts(pretrained)["trained"] == ["encoder", "decoder"]


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_of_each_method_are_known(tmp_path: Path, name: str) -> None:
    pytest.importorskip(METHODS[name].settings.split(":")[0])
    path = write_pretraining(tmp_path / "w.pth", name)
    assert facts(read_pretrained(path))["settings_changed"] == {"epochs": 5}


def test_inspect_says_that_the_decoder_is_as_it_was_initialised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_pretraining(tmp_path / "w.pth", "volf")
    content = torch.load(path, weights_only=True)
    content["nnunet_volf"]["transfers"] = ["encoder"]
    torch.save(content, path)
    _, said = run(capsys, "inspect", path)
    assert "trained       encoder; decoder as initialised" in said.splitlines()


def test_an_import_keeps_what_was_trained(tmp_path: Path) -> None:
    path = write_pretraining(tmp_path / "w.pth", "slem")
    assert main(["weights", "import", str(path), "-o", str(tmp_path / "imported.pth")]) == 0
    after = read_pretrained(tmp_path / "imported.pth")
    assert (after.method, after.trained) == ("SLeM", ("encoder",))


@pytest.mark.parametrize("name", METHODS)
def test_an_export_says_method_and_parts_cites_the_right_papers_and_has_no_head(tmp_path: Path, name: str) -> None:
    method, path = METHODS[name], write_pretraining(tmp_path / "w.pth", name)
    assert b"projector" in path.read_bytes()
    assert main(["weights", "export", str(path), "-o", str(tmp_path / "out.pth")]) == 0
    assert b"projector" not in (tmp_path / "out.pth").read_bytes()
    exported = torch.load(tmp_path / "out.pth", weights_only=True)["nnunet_volf"]
    assert (exported["method"], exported["transfers"]) == (method.label, list(method.transfers))
    assert set(exported) == {"method", "transfers", "settings", "data", "versions"}
    card = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert f"trained by {method.label} on Dataset007_Liver" in card
    assert f"| parts trained | {say_trained(method.transfers)} |" in card
    assert ("its decoder is as it was initialised" in card) == (name in ENCODER_METHODS)
    assert ("Encoder and decoder are for fine-tuning" in card) == (name not in ENCODER_METHODS)
    for other, papers in OF_METHODS.items():
        assert all((paper in card) == (other == name) for paper in papers), other


def test_every_method_has_papers_to_cite() -> None:
    assert OF_METHODS.keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_an_export_for_nnunets_route_names_the_method_and_says_what_that_route_leaves_behind(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "original_median_spacing_after_transp": [1.0] * 3, "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "experiment_planner_used": "Planner",
    }  # fmt: skip
    resampling = {"resampling_fn_data": "f", "resampling_fn_data_kwargs": {}}
    resampling |= {"resampling_fn_seg": "f", "resampling_fn_seg_kwargs": {}}
    path = write_pretraining(tmp_path / "w.pth", name, **resampling)
    content = torch.load(path, weights_only=True)
    content["init_args"]["plans"] |= more
    torch.save(content, path)
    code, said = run(capsys, "export", path, "-o", tmp_path / "out.pth", "--nnssl")
    assert code == 0
    assert ("That route takes the encoder only" in said) == (name not in ENCODER_METHODS)
    cited = torch.load(tmp_path / "out.pth", weights_only=True)["citations"]
    assert [(entry["type"], entry["name"]) for entry in cited] == [
        ("Pretraining method", METHODS[name].title),
        ("Framework", "nnU-Net"),
    ]
    assert cited[0]["apa_citations"] == list(OF_METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_a_pretraining_is_no_model_to_predict_with(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_pretraining(tmp_path / "w.pth", name)
    code, said = run(capsys, "export", path, "--as-stock", "-o", tmp_path / "model")
    assert code == 2
    assert f"is a pretraining by {METHODS[name].title}, which segments no labels" in said
    assert not (tmp_path / "model").exists()


# ------------------------------------------------------------------------------------------ a real pretraining


def test_what_a_real_pretraining_leaves_is_read_checked_exported_and_compared(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"epochs": 1, "iterations": 1, "validation_samples": 2, "panel_every": 0, "width": 16}
    change_plans(lambda plans: plans["configurations"]["3d_fullres"].update(volf_voco=few), target="VoCo")
    trainer = make_trainer("VoCo", METHODS["voco"].trainer)
    trainer.initialize()
    initial = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    trainer.run_training()
    file = Path(trainer.output_folder) / "checkpoint_final.pth"

    pretrained = read_pretrained(file)
    assert (pretrained.method, pretrained.trained) == (METHODS["voco"].label, ("encoder",))
    assert facts(pretrained)["settings_changed"] == few
    for name, tensor in pretrained.tensors.items():
        assert torch.equal(tensor, initial[name]) or was_trained(name, pretrained.trained), name

    capsys.readouterr()
    code, said = run(capsys, "check", file, "-d", 901)
    assert code == 0
    assert "the decoder, which was not trained, starts as initialised" in said

    assert main(["weights", "export", str(file), "-o", str(tmp_path / "out.pth")]) == 0
    assert torch.load(file, weights_only=True)["nnunet_volf"]["head"]
    assert "head" not in torch.load(tmp_path / "out.pth", weights_only=True)["nnunet_volf"]

    again = ["benchmark", "901", "--pretrained", str(tmp_path / "out.pth"), "--labels", "1", "--seeds", "1"]
    assert main([*again, "-o", str(tmp_path / "b"), "-device", "cpu", "--folds", str(trainer.fold), "--dry-run"]) == 0
    arms = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " nnUNetTrainer" in line]
    assert arms == ["scratch", "voco", "stock"]
