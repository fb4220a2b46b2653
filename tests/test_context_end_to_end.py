"""A context block in the real nnU-Net: every pretext trains it, stock nnU-Net takes it, other weights come into it."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders, copied
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from training import (
    DATASET,
    assert_all_but_heads_carried,
    change_plans,
    make_trainer,
    run_nnunet,
    short_stock_trainer,
    tiny_networks,
    weights_of,
    with_fine_tuning,
)

from nnunet_volf.cli import main
from nnunet_volf.networks.context_plans import with_context
from nnunet_volf.phantoms import write_phantom_dataset
from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.weights.target import task_of_dataset

PATCH = (16, 24, 20)
SMALL = {"voco": {"width": 16}, "slem": {"hidden": 16}}


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_curves")]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> NnUNetFolders:
    """Phantoms in two channels, which SLeM needs, planned and preprocessed by nnU-Net; not to be written to."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    base = tmp_path_factory.mktemp("two_channels")
    folders = NnUNetFolders(*(base / name for name in NnUNetFolders._fields))
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in zip(NnUNetFolders._fields, folders, strict=True):
            patch.setenv(f"nnUNet_{name}", str(folder))
        write_phantom_dataset(folders.raw, DATASET, cases=5, shape=(22, 34, 28), channels=2)
        extract_fingerprints([901], num_processes=1, check_dataset_integrity=False)
        plan_experiments([901])
        change_plans(tiny_networks)
        preprocess([901], configurations=["3d_fullres"], num_processes=[1])
    return folders


@pytest.fixture
def two_channels(
    made_once: NnUNetFolders, nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> NnUNetFolders:
    """A copy for one test, with a loader in the process itself."""
    return copied(made_once, nnunet_folders, monkeypatch)


def context_plans(method: str = "volf", name: str = "Context", **settings: Any) -> str:
    """Write the phantoms' plans with a context block and settings of a pretext, and return their name."""

    def change(plans: dict[str, Any]) -> None:
        configuration = plans["configurations"]["3d_fullres"]
        configuration["architecture"] = with_context(configuration["architecture"], configuration["patch_size"])
        few = {"epochs": 1, "iterations": 2, "validation_samples": 2, "panel_every": 0}
        configuration[METHODS[method].plans_key] = {**few, **SMALL.get(method, {}), **settings}

    change_plans(change, target=name)
    return name


def pretrained(folders: NnUNetFolders, plans: str, trainer: str) -> Path:
    make_trainer(plans, trainer).run_training()
    return folders.results / DATASET / f"{trainer}__{plans}__3d_fullres" / "fold_0" / "checkpoint_final.pth"


@pytest.mark.parametrize("method", METHODS)
def test_every_pretext_trains_the_block_and_stock_nnunet_takes_it_and_trains_on(
    two_channels: NnUNetFolders, method: str
) -> None:
    plans = context_plans(method)
    checkpoint = pretrained(two_channels, plans, METHODS[method].trainer)
    weights = weights_of(checkpoint)
    block = [name for name in weights if name.startswith("context.")]
    assert len(block) == 16  # five branches: four with scale and offset, one with a bias; and what merges them
    assert weights["context.merge.weight"].any(), "no longer the identity"

    stock = make_trainer(plans, trainer="nnUNetTrainer")
    stock.num_epochs, stock.num_iterations_per_epoch, stock.num_val_iterations_per_epoch = 1, 2, 1
    stock.initialize()
    load_pretrained_weights(stock.network, str(checkpoint))
    assert_all_but_heads_carried(weights, stock.network.state_dict())
    stock.run_training()
    after = stock.network.state_dict()
    assert not [name for name in block if torch.equal(after[name], weights[name])]


def test_weights_of_a_network_without_the_block_come_into_one_with_it_and_give_the_same_until_it_is_trained(
    phantoms: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_plans(
        lambda plans: plans["configurations"]["3d_fullres"].update(
            volf={"epochs": 1, "iterations": 2, "validation_samples": 2, "panel_every": 0}
        ),
        target="Plain",
    )
    checkpoint, plans = pretrained(phantoms, "Plain", "nnUNetTrainerVolF"), context_plans()
    adapted = tmp_path / "adapted.pth"
    task = ("-d", "901", "-p", plans, "-c", "3d_fullres")
    main(["weights", "check", str(checkpoint), *task])
    said = capsys.readouterr().out
    assert "the block is new and starts as identity" in said
    assert "no tensor of one serves the other" not in said
    assert main(["weights", "adapt", str(checkpoint), *task, "-o", str(adapted)]) == 0

    plain = task_of_dataset("901", "Plain", "3d_fullres").network()
    load_pretrained_weights(plain, str(checkpoint))
    with_block = task_of_dataset("901", plans, "3d_fullres").network(seed=1)
    load_pretrained_weights(with_block, str(adapted))
    heads = {name: value for name, value in plain.state_dict().items() if ".seg_layers." in name}
    with_block.load_state_dict({**with_block.state_dict(), **heads})
    x = torch.randn(1, 1, *PATCH)
    with torch.no_grad():
        for one, other in zip(plain.eval()(x), with_block.eval()(x), strict=True):
            assert torch.equal(one, other)

    assert main(["weights", "adapt", str(adapted), "-d", "901", "-p", "Plain", "-c", "3d_fullres"]) in (0, 3)
    assert "context block" in capsys.readouterr().out


def test_the_fine_tuner_takes_parts_and_a_rate_for_each_layer(two_channels: NnUNetFolders) -> None:
    plans = with_fine_tuning(
        source=context_plans(), first="decoder", first_share=0.5, layer_decay=0.8, epochs=2, iterations=1
    )
    trainer = make_trainer(plans, "nnUNetTrainerVolFFineTune")
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    checkpoint = two_channels.results / DATASET / f"nnUNetTrainerVolFFineTune__{plans}__3d_fullres" / "fold_0"
    assert "context.merge.weight" in weights_of(checkpoint / "checkpoint_final.pth")


@pytest.mark.timeout(900)
def test_a_stock_model_with_a_block_predicts_and_it_is_said_what_it_needs(
    two_channels: NnUNetFolders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = context_plans()
    command = functools.partial(run_nnunet, nnUNet_n_proc_DA="1")
    short = short_stock_trainer(tmp_path / "trainers")
    folders = os.pathsep.join((str(short), os.environ.get("nnUNet_extTrainer", "")))
    done = command(
        "nnUNetv2_train", DATASET, "3d_fullres", "0", "-p", plans, "-device", "cpu", "-tr", "nnUNetTrainerShort",
        nnUNet_extTrainer=folders,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    training = two_channels.results / DATASET / f"nnUNetTrainerShort__{plans}__3d_fullres"
    model = tmp_path / "model"
    assert main(["weights", "export", str(training), "--as-stock", "-o", str(model)]) == 0
    assert "nnunet_volf.networks.ContextUNet" in capsys.readouterr().out
    done = command(
        "nnUNetv2_predict_from_modelfolder", "-i", str(two_channels.raw / DATASET / "imagesTr"), "-o",
        str(tmp_path / "predicted"), "-m", str(model), "-f", "0", "-device", "cpu", "--disable_tta", "-npp", "1",
        "-nps", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "predicted").glob("*.nii.gz"))) == 5
