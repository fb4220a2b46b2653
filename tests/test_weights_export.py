"""Weights that are passed on: what is in the file, what is not, and that nnU-Net takes it."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from hypothesis import given
from hypothesis import strategies as st
from training import DATASET, TRAINER, change_plans, make_trainer, with_settings
from weight_files import plans_of, random_tensors

from nnunet_volf.cli import main
from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.export import export_weights
from nnunet_volf.weights.model_card import Terms
from nnunet_volf.weights.names import canonical_name
from nnunet_volf.weights.shareable import is_place, left_out, shareable_plans
from nnunet_volf.weights.target import task_of_plans


def train(plans: str) -> Path:
    make_trainer(plans).run_training()
    return checkpoint_of(plans)


def checkpoint_of(plans: str) -> Path:
    results = Path(os.environ["nnUNet_results"])
    return results / DATASET / f"{TRAINER}__{plans}__3d_fullres" / "fold_0" / "checkpoint_final.pth"


@pytest.fixture
def pretrained(phantoms: NnUNetFolders) -> Path:
    """A checkpoint of a real, short pretraining."""
    return train(with_settings(epochs=1))


def export(source: Path, output: Path, *options: str) -> int:
    return main(["weights", "export", str(source), "-o", str(output), *options])


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def written_checkpoint(path: Path, channels: int = 1, **plan: Any) -> Path:
    """Write a checkpoint with random weights as nnU-Net would."""
    plans = plans_of(channels=channels, **plan)
    configuration = next(iter(plans["configurations"]))
    dataset = {
        "channel_names": {str(i): f"MR{i}" for i in range(channels)},
        "labels": {"background": 0, "organ": 1},
        "file_ending": ".nii.gz",
    }
    tensors = random_tensors(task_of_plans(plans, configuration, dataset))
    torch.save(
        {
            "network_weights": tensors,
            "init_args": {"plans": plans, "configuration": configuration, "fold": 0, "dataset_json": dataset},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
            "current_epoch": 5,
            "optimizer_state": {"momentum": torch.zeros(1000)},
        },
        path,
    )
    return path


def test_the_file_holds_the_network_and_its_description_and_nothing_of_the_training(
    pretrained: Path, tmp_path: Path
) -> None:
    assert export(pretrained, tmp_path / "out.pth") == 0
    content = load(tmp_path / "out.pth")
    assert set(content) == {
        "network_weights", "trainer_name", "init_args", "inference_allowed_mirroring_axes", "current_epoch",
        "nnunet_volf",
    }  # fmt: skip
    assert set(content["init_args"]) == {"plans", "configuration", "fold", "dataset_json"}
    assert set(content["nnunet_volf"]) == {"method", "transfers", "settings", "data", "versions"}
    assert {"optimizer_state", "logging", "grad_scaler_state", "_best_ema"} <= set(load(pretrained))


def test_every_tensor_is_there_under_every_name_unchanged(pretrained: Path, tmp_path: Path) -> None:
    export(pretrained, tmp_path / "out.pth")
    before, after = (load(path)["network_weights"] for path in (pretrained, tmp_path / "out.pth"))
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(tensor.device.type == "cpu" for tensor in after.values())


def test_stock_nnunet_starts_from_it_with_encoder_and_decoder(pretrained: Path, tmp_path: Path) -> None:
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    export(pretrained, tmp_path / "out.pth")
    stock = make_trainer("nnUNetPlans", trainer="nnUNetTrainer")
    stock.initialize()
    load_pretrained_weights(stock.network, str(tmp_path / "out.pth"))
    weights = load(pretrained)["network_weights"]
    for name, tensor in stock.network.state_dict().items():
        assert ".seg_layers." in name or torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("network", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"dimensions": 2},
        {"kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]]},
        {"features": (4, 8)},
    ],
    ids=["3d", "2d", "anisotropic", "two stages"],
)
def test_the_network_that_its_plans_describe_takes_it_strictly(
    tmp_path: Path, plan: dict[str, Any], network: str, channels: int
) -> None:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    source = written_checkpoint(tmp_path / "in.pth", channels=channels, network=network, **plan)
    export(source, tmp_path / "out.pth")
    content = load(tmp_path / "out.pth")
    (configuration,) = content["init_args"]["plans"]["configurations"].values()
    architecture = configuration["architecture"]
    built = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"],
        channels, len(content["init_args"]["dataset_json"]["labels"]), deep_supervision=True,
    )  # fmt: skip
    built.load_state_dict(content["network_weights"], strict=True)


def test_the_same_checkpoint_gives_the_same_bytes_and_so_does_what_was_exported(
    pretrained: Path, tmp_path: Path
) -> None:
    for folder, source in (("a", pretrained), ("b", pretrained), ("c", tmp_path / "a" / "out.pth")):
        assert export(source, tmp_path / folder / "out.pth") == 0
    first, *others = (
        [(tmp_path / folder / name).read_bytes() for name in ("out.pth", "out.md")] for folder in ("a", "b", "c")
    )
    assert all(other == first for other in others)


def test_it_says_of_itself_what_the_checkpoint_said(pretrained: Path, tmp_path: Path) -> None:
    export(pretrained, tmp_path / "out.pth")
    before, after = read_pretrained(pretrained), read_pretrained(tmp_path / "out.pth")
    assert after.opened == "plain"
    for name in (
        "kind", "trainer", "method", "settings", "dataset", "configuration", "epochs", "preparation", "architecture",
        "data", "versions",
    ):  # fmt: skip
        assert getattr(after, name) == getattr(before, name), name
    assert after.data["cases"] == 4


SECRETS = (
    "patient_0815", "/home/clinic/scans", "C:\\clinic\\scans", "\\\\server\\scans", "case_of_jane", "file:///scans",
    "~/private",
)  # fmt: skip


def test_no_patient_and_no_place_leaves_the_house(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = load(pretrained)
    init = checkpoint["init_args"]
    init["dataset_json"] |= {
        "dataset": {"patient_0815": {"images": ["/home/clinic/scans/patient_0815.nii.gz"], "label": "x"}},
        "training": ["case_of_jane"],
        "description": "scans of case_of_jane",
    }
    init["plans"] |= {
        "pretrain_info": {"checkpoint_path": "/home/clinic/scans/checkpoint.pth"},
        "excluded": ["patient_0815"],
    }
    configuration = init["plans"]["configurations"]["3d_fullres"]
    configuration |= {"cache": "C:\\clinic\\scans", "share": "\\\\server\\scans", "/home/clinic/scans": 1}
    configuration["volf"]["source"] = {"folder": "file:///scans", "listed": ["~/private", "kept"]}
    checkpoint["nnunet_volf"] |= {"epoch_outputs": ["patient_0815"]}
    checkpoint["nnunet_volf"]["settings"]["folder"] = "kept at /home/clinic/scans"
    torch.save(checkpoint, tmp_path / "in.pth")

    assert export(tmp_path / "in.pth", tmp_path / "out.pth") == 0
    with zipfile.ZipFile(tmp_path / "out.pth") as archive:
        stored = b"".join(archive.read(name) for name in archive.namelist())
    stored += (tmp_path / "out.md").read_bytes()
    found = [secret for secret in SECRETS if secret.encode() in stored or secret.encode("utf-16-le") in stored]
    assert not found
    assert b"kept" in stored
    said = capsys.readouterr().out
    for name in ("plans: pretrain_info", "plans: excluded", "dataset.json: dataset", "dataset.json: training",
                 "plans: configurations.3d_fullres.cache"):  # fmt: skip
        assert name in said


def test_a_tensor_that_is_part_of_a_larger_one_takes_nothing_of_that_along(tmp_path: Path) -> None:
    source = written_checkpoint(tmp_path / "in.pth")
    checkpoint = load(source)
    secret = torch.full((500_000,), 0.123)
    for name, tensor in checkpoint["network_weights"].items():
        whole = torch.cat([secret, tensor.flatten()])
        checkpoint["network_weights"][name] = whole[len(secret) :].view(tensor.shape)
    torch.save(checkpoint, source)
    export(source, tmp_path / "out.pth")
    assert (tmp_path / "out.pth").stat().st_size < secret.numel()


def test_a_parameter_with_many_names_is_stored_once(pretrained: Path, tmp_path: Path) -> None:
    export(pretrained, tmp_path / "out.pth")
    weights = load(tmp_path / "out.pth")["network_weights"]
    assert len({tensor.data_ptr() for tensor in weights.values()}) == len({canonical_name(name) for name in weights})
    assert len(weights) > 2 * len({canonical_name(name) for name in weights})


def lose(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if canonical_name(name) == "encoder.stages.1.0.convs.0.conv.weight"]:
        del weights[name]


def add(weights: dict[str, torch.Tensor]) -> None:
    weights["projector.weight"] = torch.zeros(3)


def widen(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if canonical_name(name) == "encoder.stages.1.0.convs.0.conv.weight"]:
        weights[name] = torch.zeros(7, 7, 3, 3, 3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lose, r"encoder\.stages\.1\.0\.convs\.0\.conv\.weight is not in the file"),
        (add, r"projector\.weight is in the file and not in the network"),
        (widen, r"is \(7, 7, 3, 3, 3\) in the file and \(6, 4, 3, 3, 3\) in the network"),
    ],
)
def test_a_network_that_its_plans_do_not_describe_is_refused(tmp_path: Path, change: Any, problem: str) -> None:
    source = written_checkpoint(tmp_path / "in.pth")
    checkpoint = load(source)
    change(checkpoint["network_weights"])
    torch.save(checkpoint, source)
    with pytest.raises(WeightsError, match=rf"(?s)does not hold the network that its plans describe.*1 do.*{problem}"):
        export_weights(source, tmp_path / "out.pth", Terms())
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("form", [[], ["--as-stock"], ["--nnssl"]])
def test_a_program_that_a_file_names_as_its_network_is_refused_and_not_run(
    tmp_path: Path, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, ran = written_checkpoint(tmp_path / "w.pth"), tmp_path / "ran"
    content = load(file)
    described = content["init_args"]["plans"]["configurations"]["3d_fullres"]["architecture"]
    described["network_class_name"] = "subprocess.Popen"
    described["arch_kwargs"] = {"args": ["touch", str(ran)]}
    torch.save(content, file)
    assert export(file, tmp_path / "out.pth", *form) == 2
    said = capsys.readouterr().err
    assert f"{file} is not exported. The network class subprocess.Popen is not one of nnU-Net's or ours" in said
    assert "If the file is your own: --trust." in said
    assert not ran.exists()
    assert not (tmp_path / "out.pth").exists()


def test_weights_without_heads_can_be_passed_on(tmp_path: Path) -> None:
    source = written_checkpoint(tmp_path / "in.pth")
    checkpoint = load(source)
    weights = checkpoint["network_weights"]
    checkpoint["network_weights"] = {name: tensor for name, tensor in weights.items() if ".seg_layers." not in name}
    torch.save(checkpoint, source)
    assert export(source, tmp_path / "out.pth") == 0
    assert load(tmp_path / "out.pth")["network_weights"].keys() == checkpoint["network_weights"].keys()


@pytest.mark.parametrize(
    ("content", "has"),
    [({"state_dict": {"a": torch.zeros(1)}}, "holds none of them"), ({"network_weights": {}}, "holds weights")],
)
def test_a_file_without_plans_is_refused_with_what_to_do(tmp_path: Path, content: Any, has: str) -> None:
    torch.save(content, tmp_path / "in.pth")
    with pytest.raises(WeightsError, match=rf"(?s){has}.*nnunet-volf weights adapt .*in\.pth -d DATASET -o NEW\.pth"):
        export_weights(tmp_path / "in.pth", tmp_path / "out.pth", Terms())


@pytest.mark.parametrize("there", ["out.pth", "out.md"])
def test_nothing_that_is_there_is_overwritten(tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / there).write_text("mine")
    assert export(written_checkpoint(tmp_path / "in.pth"), tmp_path / "out.pth") == 2
    assert f"{there} exists. Choose another name with -o, or remove it first." in capsys.readouterr().err
    assert (tmp_path / there).read_text() == "mine"


def test_a_name_that_does_not_end_in_pth_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "in.pth", tmp_path / "out.md") == 2
    assert "give the file a name that ends in .pth" in capsys.readouterr().err


def test_the_next_command_compares_with_the_dataset_the_weights_are_for(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def target(plans: dict[str, Any]) -> None:
        plans["volf_target"] = {"dataset_name": "Dataset004_Hippocampus", "plans_name": "Small"}

    name = with_settings(epochs=1)
    change_plans(target, source=name, target="Aimed")
    export(train("Aimed"), tmp_path / "out.pth")
    said = capsys.readouterr().out
    assert said.endswith(f"\nnext: nnunet-volf weights check {tmp_path / 'out.pth'} -d 4 -p Small -c 3d_fullres\n")


@pytest.mark.parametrize(
    ("target", "options"), [(None, "-d DATASET -c 3d_fullres"), ("absent", "-d 7 -p nnUNetPlans -c 3d_fullres")]
)
def test_an_archives_own_plan_is_for_any_dataset_and_a_labelled_datasets_for_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str | None, options: str
) -> None:
    source = written_checkpoint(tmp_path / "in.pth")
    if target is None:
        checkpoint = load(source)
        checkpoint["init_args"]["plans"]["volf_target"] = None
        torch.save(checkpoint, source)
    export(source, tmp_path / "out.pth")
    assert capsys.readouterr().out.endswith(f"weights check {tmp_path / 'out.pth'} {options}\n")


def test_a_missing_licence_is_mentioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written_checkpoint(tmp_path / "in.pth")
    export(source, tmp_path / "a.pth")
    assert "No licence is stated" in capsys.readouterr().out
    export(source, tmp_path / "b.pth", "--license", "CC-BY-4.0")
    assert "No licence is stated" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["/home/me", "/data.nii", "C:\\data", "d:/data", "\\\\server\\share", "~/data", "file:///data", "see /home/me",
     "from='/mnt/x'", "(~root/x)"],
)  # fmt: skip
def test_places_on_a_disk_are_recognised(text: str) -> None:
    assert is_place(text)


@pytest.mark.parametrize(
    "text",
    ["Dataset004_Hippocampus", "torch.nn.LeakyReLU", "CT/MR", "mm / s", "https://doi.org/10.1/x", "a~b", "T1: native",
     "arXiv:2306.16925", "", "import/manifest.jsonl"],
)  # fmt: skip
def test_other_texts_are_no_places(text: str) -> None:
    assert not is_place(text)


def test_what_is_neither_plain_nor_a_container_stays_behind() -> None:
    odd = {"plans_name": object(), "configurations": {"2d": {"spacing": [1.0, object(), {1, 2}], ("a",): 1}}}
    shared = shareable_plans(odd)
    assert shared == {"configurations": {"2d": {"spacing": [1.0]}}}
    assert list(left_out(odd, shared)) == ["plans_name", "configurations.2d.('a',)"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["configurations", "plans_name", "secret", "pretrain_info"]), PLAIN))
def test_only_known_entries_without_places_go_out_and_the_rest_is_named(plans: dict[str, Any]) -> None:
    shared = shareable_plans(plans)
    assert set(shared) <= {"configurations", "plans_name"}
    assert not any(is_place(text) for text in _texts(shared))
    assert {"secret", "pretrain_info"} & set(plans) <= set(left_out(plans, shared))
    assert shareable_plans(shared) == shared
    assert json.loads(json.dumps(shared)) == shared


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for name, item in value.items() for text in [name, *_texts(item)]]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def test_the_page_on_sharing_lists_what_is_in_the_file(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "share.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (`[^|]+) \|", page, flags=re.MULTILINE)
    export(written_checkpoint(tmp_path / "in.pth"), tmp_path / "out.pth")
    documented = set(re.findall(r"`(\w+)`", " ".join(listed)))
    assert documented == {*load(tmp_path / "out.pth"), "nnunet_volf"}
