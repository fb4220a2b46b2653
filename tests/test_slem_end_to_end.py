"""SLeM with the real nnU-Net, on phantoms with two channels: trained, stopped, resumed, taken over by stock nnU-Net."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
import torch
from conftest import NnUNetFolders
from often import often
from training import (
    DATASET,
    assert_all_but_heads_carried,
    make_trainer,
    run_nnunet,
    run_until,
    short_stock_trainer,
    weights_of,
    with_settings,
)

from nnunet_volf.cli import main
from nnunet_volf.discovery import trainers_folder
from nnunet_volf.errors import SettingsError, TrainingError
from nnunet_volf.training_files import EXIT_REQUEUE

TRAINER = "nnUNetTrainerSLeM"


@pytest.fixture
def two_channels(phantoms: NnUNetFolders) -> NnUNetFolders:
    """The phantoms with a second channel that is rougher than the first."""
    description = phantoms.preprocessed / DATASET / "dataset.json"
    content = json.loads(description.read_text(encoding="utf-8"))
    content["channel_names"] = {"0": "T1", "1": "T2"}
    description.write_text(json.dumps(content), encoding="utf-8")
    rng = np.random.default_rng(0)
    for configuration in ("3d_fullres", "2d"):
        for file in (phantoms.preprocessed / DATASET / f"nnUNetPlans_{configuration}").glob("case_???.b2nd"):
            image = blosc2.open(urlpath=str(file), mode="r")[:]
            file.unlink()
            rough = image + rng.normal(0, 0.5, image.shape).astype(image.dtype)
            blosc2.asarray(np.concatenate([image, rough]), urlpath=str(file))
    return phantoms


def with_slem(name: str = "Test", configuration: str = "3d_fullres", **settings: Any) -> str:
    """Write plans with these settings and return their name."""
    return with_settings(name, configuration, key="volf_slem", **{"hidden": 16, **settings})


def fold_folder(folders: NnUNetFolders, plans: str, configuration: str = "3d_fullres") -> Path:
    return folders.results / DATASET / f"{TRAINER}__{plans}__{configuration}" / "fold_0"


def run(trainer: Any, stop_at: int | None = None) -> Any:
    run_until(trainer, stop_at)
    return trainer


def train(plans: str, **options: Any) -> Any:
    return run(make_trainer(plans, trainer=TRAINER, **options))


@pytest.mark.parametrize("head", ["combination", "blocks"])
@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_it_trains_in_2d_and_3d_and_says_how_well(two_channels: NnUNetFolders, configuration: str, head: str) -> None:
    plans = with_slem(configuration=configuration, head=head, epochs=1)
    trainer = train(plans, configuration=configuration)
    trainer.perform_actual_validation()
    folder = fold_folder(two_channels, plans, configuration)
    summary = json.loads((folder / "pretraining_summary.json").read_text(encoding="utf-8"))
    assert summary["settings"]["head"] == head
    text = json.dumps(summary)
    assert '"block_accuracy"' in text
    assert '"cross_entropy_of_guessing"' in text
    assert (folder / "pretraining_panel.png").is_file()
    log = next(folder.glob("training_log*")).read_text(encoding="utf-8")
    classes = 2 if head == "blocks" else 16
    assert f"guessing among {classes} gives" in log
    assert "T1, T2 recombined in" in log
    assert "-pretrained_weights" in log


def test_stock_nnunet_takes_over_the_encoder_and_finds_the_decoder_as_it_was_initialised(
    two_channels: NnUNetFolders,
) -> None:
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    plans = with_slem()
    trainer = make_trainer(plans, trainer=TRAINER)
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    run(trainer)
    checkpoint = fold_folder(two_channels, plans) / "checkpoint_final.pth"
    trained = weights_of(checkpoint)
    for name, value in trained.items():
        encoder = name.startswith(("encoder.", "decoder.encoder."))
        assert torch.equal(value, before[name]) != encoder, name

    stock = make_trainer(plans, trainer="nnUNetTrainer")
    stock.initialize()
    load_pretrained_weights(stock.network, str(checkpoint))
    assert_all_but_heads_carried(trained, stock.network.state_dict())

    state = torch.load(checkpoint, weights_only=True)["nnunet_volf"]
    assert state["transfers"] == ["encoder"]
    assert state["settings"]["mode"] == "cyclic"
    assert {name for name in state["head"] if "layers.1" in name} == {"layers.1.weight", "layers.1.bias"}


@pytest.mark.parametrize("stop_at", often([1, 2, 4], 2))
def test_a_training_stopped_and_resumed_ends_in_identical_weights_and_head(
    two_channels: NnUNetFolders, stop_at: int
) -> None:
    train(with_slem("Undisturbed"))
    plans = with_slem("Stopped")
    with pytest.raises(SystemExit) as left:
        run(make_trainer(plans, trainer=TRAINER), stop_at)
    assert left.value.code == EXIT_REQUEUE
    resumed = make_trainer(plans, trainer=TRAINER, resume=True)
    assert resumed.current_epoch * 3 + resumed.iteration == stop_at + 1
    run(resumed)

    finished, undisturbed = (
        torch.load(fold_folder(two_channels, name) / "checkpoint_final.pth", weights_only=True)
        for name in (plans, "Undisturbed")
    )
    for a, b in (
        (finished["network_weights"], undisturbed["network_weights"]),
        (finished["nnunet_volf"]["head"], undisturbed["nnunet_volf"]["head"]),
    ):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("change", [{"class_seed": 1}, {"mode": "permutation"}, {"grid": [1, 2, 1]}], ids=str)
def test_going_on_with_classes_that_mean_something_else_is_refused(
    two_channels: NnUNetFolders, change: dict[str, Any]
) -> None:
    train(with_slem("Changed", epochs=1))
    with_slem("Changed", epochs=2, **change)
    with pytest.raises(TrainingError, match=next(iter(change))):
        make_trainer("Changed", trainer=TRAINER, resume=True)


def test_one_channel_is_refused_before_any_image_is_read(phantoms: NnUNetFolders) -> None:
    for file in (phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres").iterdir():
        file.unlink()
    with pytest.raises(SettingsError, match=f"at least 2 co-registered input channels; {DATASET} has 1"):
        make_trainer(with_slem(), trainer=TRAINER)


def test_validation_is_the_same_from_run_to_run(two_channels: NnUNetFolders) -> None:
    plans = with_slem(epochs=1)
    first, second = (train(plans) for _ in range(2))
    for a, b in zip(first.dataloader_val._batches, second.dataloader_val._batches, strict=True):
        assert torch.equal(a["data"], b["data"])
        assert torch.equal(a["target"], b["target"])


def test_the_commands_show_it_and_change_its_settings(
    two_channels: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["preview", "901", "-p", "nnUNetPlans", "--pretext", "slem", "-o", "seen.png"]) == 0
    assert "T1, T2 recombined in 1 x 2 x 2 blocks, mode cyclic: 16 classes" in capsys.readouterr().out
    assert Path("seen.png").is_file()
    arguments = ["--pretext", "slem", "--set", "head=blocks", "grid=[1,1,2]", "--as", "Blocks"]
    assert main(["settings", "901", "-p", "nnUNetPlans", *arguments]) == 0
    assert f"-tr {TRAINER}" in capsys.readouterr().out
    assert main(["preview", "901", "-p", "Blocks", "--pretext", "slem", "-o", "seen.png"]) == 0
    assert "1 x 1 x 2 blocks, mode cyclic: one of 2 classes for each block." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)  # two commands, each of which loads nnU-Net and starts workers
def test_stock_commands_pretrain_and_fine_tune(two_channels: NnUNetFolders, tmp_path: Path) -> None:
    plans = with_slem(epochs=1)
    folders = [short_stock_trainer(tmp_path / "users"), trainers_folder()]
    environment = {"nnUNet_n_proc_DA": "1", "nnUNet_extTrainer": os.pathsep.join(map(str, folders))}
    done = run_nnunet(
        "nnUNetv2_train", DATASET, "3d_fullres", "0", "-tr", TRAINER, "-p", plans, "-device", "cpu", **environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checkpoint = fold_folder(two_channels, plans) / "checkpoint_final.pth"
    assert f"-pretrained_weights {checkpoint}" in done.stdout
    done = run_nnunet(
        "nnUNetv2_train", DATASET, "3d_fullres", "0", "-tr", "nnUNetTrainerShort", "-p", plans, "-device", "cpu",
        "-pretrained_weights", str(checkpoint), **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "encoder.stages.0" in done.stdout
