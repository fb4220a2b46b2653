"""``nnunet-volf weights adapt``: what it writes is what nnU-Net's own loader takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from weight_files import task_of, write_checkpoint, write_planned

from nnunet_volf.cli import main
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.names import canonical_name, is_head
from nnunet_volf.weights.target import Task, task_of_dataset


def adapt(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["weights", "adapt", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def as_nnunet_starts(task: Task, file: Path) -> dict[str, torch.Tensor]:
    """Return a network's tensors after nnU-Net's own function has loaded a file into it."""
    network = task.network(seed=99)
    load_pretrained_weights(network, str(file))
    return dict(network.state_dict())


PLANS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("four channels from one", {}, {"channels": ("T1", "T1c", "T2", "FLAIR")}),
    ("one channel from four", {"channels": ("T1", "T1c", "T2", "FLAIR")}, {}),
    ("three channels from two, one of them known", {"channels": ("T1", "T2")}, {"channels": ("T2", "PET", "CT")}),
    ("3D from 2D", {"dimensions": 2}, {}),
    ("2D from 3D", {}, {"dimensions": 2}),
    ("flat from cubic kernels", {}, {"kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}),
    ("cubic from flat strides", {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]]}, {}),
    ("a deeper network", {}, {"features": (4, 6, 8, 8)}),
    ("a shallower network", {"features": (4, 6, 8, 8)}, {}),
    ("residual from plain", {}, {"network": "ResidualEncoderUNet"}),
    ("plain from residual", {"network": "ResidualEncoderUNet"}, {}),
    ("more blocks", {"network": "ResidualEncoderUNet"}, {"network": "ResidualEncoderUNet", "convolutions": 2}),
]


@pytest.mark.parametrize(("source", "target"), [plans[1:] for plans in PLANS], ids=[plans[0] for plans in PLANS])
def test_nnunets_own_loader_takes_what_is_written(
    source: dict[str, Any],
    target: dict[str, Any],
    nnunet_folders: NnUNetFolders,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_planned(nnunet_folders.preprocessed, **target)
    configuration = "2d" if target.get("dimensions") == 2 else "3d_fullres"
    file, fitted = write_checkpoint(tmp_path / "w.pth", **source), tmp_path / "new" / "fitted.pth"
    asked = ("-d", 7, "-c", configuration)
    code, said = adapt(capsys, file, *asked, "-o", fitted)
    assert code == 0
    assert said.splitlines()[-1] == (
        f"next: nnUNetv2_train 7 {configuration} 0 -p nnUNetPlans -tr nnUNetTrainerVolFFineTune "
        f"-pretrained_weights {fitted}"
    )
    written = torch.load(fitted, weights_only=True)["network_weights"]
    started = as_nnunet_starts(task_of_dataset("7", "nnUNetPlans", configuration), fitted)
    assert {name for name in started if not is_head(name)} == set(written)
    for name, tensor in written.items():
        assert torch.equal(started[name], tensor)
        assert torch.equal(tensor, written.get(canonical_name(name), tensor))
    assert main(["weights", "check", str(fitted), *map(str, asked)]) == 0  # it is a file for that task now


def test_what_the_pretraining_was_stays_known(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, channels=("T1", "T2"), spacing=[3.0, 1.0, 1.0], name="Dataset007_Liver")
    file = write_checkpoint(tmp_path / "w.pth", name="Dataset500_Archive")
    adapt(capsys, file, "-d", 7, "-o", tmp_path / "fitted.pth")
    before, after = read_pretrained(file), read_pretrained(tmp_path / "fitted.pth")
    assert (after.kind, after.dataset, after.epochs) == ("nnU-Net", "Dataset500_Archive", 5)
    assert after.preparation == before.preparation
    assert after.notes[-1].startswith("Adapted for Dataset007_Liver, nnUNetPlans, 3d_fullres: 100.0% of the network")
    main(["weights", "check", str(tmp_path / "fitted.pth"), "-d", "7"])
    assert "warning: pretrained at 1 x 1 x 1 mm, the task is at 3 x 1 x 1 mm" in capsys.readouterr().out


def test_where_nothing_is_said_the_file_goes_beside_the_first_and_is_named_after_the_task(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, channels=("T1", "T2"))
    file = write_checkpoint(tmp_path / "w.pth")
    code, _ = adapt(capsys, file, "-d", 7)
    assert code == 0
    assert (tmp_path / "w-for-Dataset007-nnUNetPlans-3d_fullres.pth").is_file()
    code, said = adapt(capsys, file, "-d", 7)
    assert code == 2
    assert "w-for-Dataset007-nnUNetPlans-3d_fullres.pth exists. Choose another name with -o, or remove it" in said


def test_the_seed_decides_what_is_initialised_anew(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed)
    file = write_checkpoint(tmp_path / "w.pth")
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        adapt(capsys, file, "-d", 7, "--scope", "encoder", "--seed", seed, "-o", tmp_path / f"{number}.pth")
        weights.append(torch.load(tmp_path / f"{number}.pth", weights_only=True)["network_weights"])
    first, again, other = weights
    pretrained = read_pretrained(file).tensors
    for name in first:
        assert torch.equal(first[name], again[name])
        encoder = canonical_name(name).startswith("encoder.")
        assert torch.equal(first[name], pretrained[canonical_name(name)]) == encoder or name.endswith(".bias")
        if not encoder and name.endswith(".conv.weight"):
            assert not torch.equal(first[name], other[name])


def test_a_file_of_which_nothing_fits_is_refused_and_nothing_is_written(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, features=(16, 18, 20))
    code, said = adapt(capsys, write_checkpoint(tmp_path / "w.pth"), "-d", 7, "-o", tmp_path / "out.pth")
    assert code == 2
    assert "has nothing that Dataset007_Liver, nnUNetPlans, 3d_fullres could start from" in said
    assert "weights check" in said
    assert not (tmp_path / "out.pth").exists()


def test_no_case_and_no_place_of_the_dataset_goes_into_the_file(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_planned(nnunet_folders.preprocessed, channels=("T1", "T2"))
    path = nnunet_folders.preprocessed / "Dataset007_Liver" / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["dataset"] = {"doe_john": {"images": ["/hospital/doe_john.nii.gz"], "label": "/hospital/l.nii.gz"}}
    path.write_text(json.dumps(content), encoding="utf-8")
    adapt(capsys, write_checkpoint(tmp_path / "w.pth"), "-d", 7, "-o", tmp_path / "out.pth")
    assert b"doe_john" not in (tmp_path / "out.pth").read_bytes()
    assert b"hospital" not in (tmp_path / "out.pth").read_bytes()


def test_the_network_of_a_task_is_built_as_nnunet_builds_it() -> None:
    task = task_of(network="ResidualEncoderUNet", channels=("a", "b"))
    assert task.first_layer == "encoder.stem.convs.0.conv.weight"
    assert task.shapes[task.first_layer] == (4, 2, 3, 3, 3)
    assert set(task.stored_shapes) == set(task.network().state_dict())
