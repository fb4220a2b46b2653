"""Our networks in the real nnU-Net, on phantoms: pretrain, fine-tune from the weights, go on, predict."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed, nn
from training import (
    DATASET,
    FINE_TUNER,
    TRAINER,
    assert_all_but_heads_carried,
    change_plans,
    die_in_the_second_epoch,
    make_trainer,
    run_nnunet,
    weights_of,
    with_fine_tuning,
    with_settings,
)

from nnunet_volf.discovery import trainers_folder
from nnunet_volf.networks import ContextUNet, FMUNet, PCTNet
from nnunet_volf.networks.context_plans import with_context

NETWORKS = ["PCTNet", "FMUNet", "ContextUNet"]
PATCH = (16, 24, 20)
LATEST, FINAL = "checkpoint_latest.pth", "checkpoint_final.pth"


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture of each epoch's progress, which takes ten times as long as the epoch."""
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda _self, _folder: None)


def plans_with(network: str, configuration: str = "3d_fullres") -> str:
    """Write the phantoms' plans with a network of ours and return their name."""

    def change(plans: dict[str, Any]) -> None:
        entry = plans["configurations"][configuration]["architecture"]
        if network == "ContextUNet":  # about nnU-Net's own
            entry.update(with_context(entry, plans["configurations"][configuration]["patch_size"]))
            return
        kept = ("n_stages", "conv_op", "kernel_sizes", "strides")
        arguments = {name: entry["arch_kwargs"][name] for name in kept} | {"features_per_stage": [4, 6, 8]}
        imported = ["conv_op"]
        if network == "PCTNet":
            # Three windows along the patch at this stage, the last of them padded: shifts and masks take part.
            arguments |= {"window_size": 3, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d"}
            arguments |= {"norm_op_kwargs": {"eps": 1e-5, "affine": True}}
            imported = ["conv_op", "norm_op"]
        entry.update(
            network_class_name=f"nnunet_volf.networks.{network}",
            arch_kwargs=arguments,
            _kw_requires_import=imported,
        )

    change_plans(change, target=network)
    return network


def pretraining(network: str, name: str = "Pre", **settings: Any) -> str:
    few = {"epochs": 1, "iterations": 2, "validation_samples": 2}
    return with_settings(name, source=plans_with(network), **{**few, **settings})


def folder_of(folders: NnUNetFolders, plans: str, trainer: str = TRAINER, configuration: str = "3d_fullres") -> Path:
    return folders.results / DATASET / f"{trainer}__{plans}__{configuration}" / "fold_0"


def pretrained(folders: NnUNetFolders, network: str, **settings: Any) -> Path:
    plans = pretraining(network, **settings)
    trainer = make_trainer(plans)
    trainer.run_training()
    return folder_of(folders, plans) / FINAL


def shortened(trainer: Any) -> Any:
    """Two steps in place of 250,000."""
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 2, 1
    return trainer


@pytest.mark.parametrize("network", NETWORKS)
def test_all_weights_but_the_heads_reach_stock_nnunet_which_trains_on(phantoms: NnUNetFolders, network: str) -> None:
    checkpoint = pretrained(phantoms, network)
    stock = shortened(make_trainer(network, trainer="nnUNetTrainer"))
    stock.initialize()
    load_pretrained_weights(stock.network, str(checkpoint))

    loaded = {name: value.clone() for name, value in stock.network.state_dict().items()}
    assert_all_but_heads_carried(weights_of(checkpoint), loaded)

    stock.run_training()
    unchanged = [name for name, value in stock.network.state_dict().items() if torch.equal(value, loaded[name])]
    # nnU-Net gives the coarsest output no weight in the loss. What only that one passes through is never trained.
    assert all(name.startswith(("decoder.seg_layers.0.", "decoder.stages.0.out.")) for name in unchanged)


@pytest.mark.parametrize("network", NETWORKS)
def test_fine_tuned_in_parts_from_the_weights_nnunets_predictor_gives_what_the_network_gives(
    phantoms: NnUNetFolders, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = pretrained(phantoms, network)
    parts = {"first": "decoder", "first_share": 0.5, "layer_decay": 0.8, "epochs": 2, "iterations": 1}
    plans = with_fine_tuning(source=network, **parts)
    arguments = [DATASET, "3d_fullres", "0", "-p", plans, "-tr", FINE_TUNER, "-pretrained_weights", str(checkpoint)]
    monkeypatch.setattr("sys.argv", ["nnUNetv2_train", *arguments])
    trainer = make_trainer(plans, FINE_TUNER)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(checkpoint))
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    folder = folder_of(phantoms, plans, FINE_TUNER)
    log = "".join(path.read_text() for path in folder.glob("training_log*"))
    assert f"Pretrained weights were loaded from {checkpoint}." in log

    predictor = nnUNetPredictor(
        device=torch.device("cpu"),
        perform_everything_on_device=False,
        use_mirroring=False,
        use_gaussian=False,  # at a patch's corners its weights are too small for the halves that nnU-Net adds up
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(folder.parent), (0,))
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    image = torch.randn(1, *PATCH)
    predicted = predictor.predict_sliding_window_return_logits(image)
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        expected = trainer.network.eval()(image[None])[0]
    assert predicted.shape == expected.shape
    torch.testing.assert_close(predicted.float(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pretraining_that_was_killed_and_continued_ends_in_identical_weights(
    phantoms: NnUNetFolders, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, killed = (pretraining(network, name, epochs=2) for name in ("Calm", "Killed"))
    make_trainer(calm).run_training()
    die_in_the_second_epoch(make_trainer(killed))
    assert (folder_of(phantoms, killed) / LATEST).is_file()
    make_trainer(killed, resume=True).run_training()

    one, other = (weights_of(folder_of(phantoms, plans) / FINAL) for plans in (calm, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("network", NETWORKS)
def test_compiled_as_nnunet_does_it_the_weights_are_those_of_the_plain_training(
    phantoms: NnUNetFolders, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = weights_of(pretrained(phantoms, network, name="Plain"))

    compiler = torch.compile
    compiled: list[nn.Module] = []

    def whole(model: Any) -> Any:
        """Compile in one graph, without the code generator, which takes minutes."""
        if not hasattr(model, "decoder"):  # nnU-Net compiles its loss, too
            return model
        compiled.append(compiler(model, backend="eager", fullgraph=True))
        return compiled[-1]

    monkeypatch.setattr(torch, "compile", whole)
    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda _self: True)
    weights = weights_of(pretrained(phantoms, network, name="Compiled"))
    assert len(compiled) == 1
    assert weights.keys() == plain.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, plain[name], atol=1e-5, rtol=1e-4, msg=name)


def test_fmunet_pretrains_in_2d_and_stock_nnunet_takes_it(phantoms: NnUNetFolders) -> None:
    plans = with_settings("Flat", "2d", source=plans_with("FMUNet", "2d"), epochs=1, iterations=2, validation_samples=2)
    make_trainer(plans, configuration="2d").run_training()
    checkpoint = folder_of(phantoms, plans, configuration="2d") / FINAL
    stock = make_trainer("FMUNet", trainer="nnUNetTrainer", configuration="2d")
    stock.initialize()
    load_pretrained_weights(stock.network, str(checkpoint))
    file = weights_of(checkpoint)
    assert file["encoder.stem.weight"].shape == (4, 1, 3, 3)
    equal = [name for name, value in stock.network.state_dict().items() if torch.equal(value, file[name])]
    assert len(equal) >= len(file) - 4, "all but two heads"


# ------------------------------------------------------------------------ on more than one device


def tiny(network: str) -> nn.Module:
    torch.manual_seed(3)
    kinds: dict[str, Callable[..., nn.Module]] = {"PCTNet": PCTNet, "FMUNet": FMUNet, "ContextUNet": ContextUNet}
    more: dict[str, Any] = {"window_size": 3, "drop_path": 0.0} if network == "PCTNet" else {}
    if network == "ContextUNet":
        more = {"network": FMUNet, "context_dilations": [[1] * 3, [2] * 3]}
    return kinds[network](
        input_channels=1, num_classes=3, n_stages=3, features_per_stage=[4, 6, 8], conv_op=nn.Conv3d,
        kernel_sizes=[[3] * 3] * 3, strides=[[1] * 3, [2] * 3, [2] * 3], dropout=0.0, deep_supervision=True, **more,
    )  # fmt: skip


def loss_of(outputs: list[torch.Tensor]) -> torch.Tensor:
    """As nnU-Net weighs its outputs on several devices, the coarsest with next to nothing."""
    terms = [weight * (output**2).mean() for weight, output in zip((1.0, 1e-6), outputs, strict=True)]
    return torch.stack(terms).sum()


def one_rank(rank: int, network: str, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(tiny(network))
    images = torch.load(Path(folder) / "images.pt")
    for _ in range(2):  # a parameter that took no part in the first step would be an error in the second
        model.zero_grad()
        loss_of(model(images[rank : rank + 1])).backward()
    if rank == 0:
        torch.save([parameter.grad for parameter in model.parameters()], Path(folder) / "gradients.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_two_processes_find_the_gradients_of_one_and_no_unused_parameter(network: str, tmp_path: Path) -> None:
    images = torch.randn(2, 1, *PATCH)
    torch.save(images, tmp_path / "images.pt")
    torch.multiprocessing.spawn(one_rank, args=(network, str(tmp_path)), nprocs=2)
    alone = tiny(network)
    loss_of(alone(images)).backward()
    gathered = torch.load(tmp_path / "gradients.pt")
    for (name, parameter), found in zip(alone.named_parameters(), gathered, strict=True):
        torch.testing.assert_close(found, parameter.grad, atol=1e-6, rtol=1e-3, msg=name)


# ------------------------------------------------------------------------------ as users do it


@pytest.mark.timeout(900)  # three commands, each of which loads nnU-Net and starts workers
@pytest.mark.parametrize(
    "network",
    [
        # Stock nnU-Net takes over FMUNet in test_pretrain_networks, and the block in test_context_end_to_end.
        pytest.param(network, marks=pytest.mark.slow if network == "PCTNet" else pytest.mark.weekly)
        for network in NETWORKS
    ],
)
def test_the_commands_of_nnunet_pretrain_fine_tune_and_predict(
    phantoms: NnUNetFolders, tmp_path: Path, network: str
) -> None:
    plans = pretraining(network)
    with_fine_tuning("Pre", source="Pre", epochs=1, iterations=2)
    command = functools.partial(
        run_nnunet, nnUNet_n_proc_DA="1", nnUNet_extTrainer=os.pathsep.join([str(trainers_folder())])
    )
    training = (DATASET, "3d_fullres", "0", "-p", plans, "-device", "cpu")
    for more in (("-tr", TRAINER), ("-tr", FINE_TUNER, "-pretrained_weights", str(folder_of(phantoms, plans) / FINAL))):
        done = command("nnUNetv2_train", *training, *more)
        assert done.returncode == 0, done.stdout + done.stderr

    predicted = tmp_path / "predicted"
    done = command(
        "nnUNetv2_predict", "-i", str(phantoms.raw / DATASET / "imagesTr"), "-o", str(predicted), "-d", DATASET,
        "-c", "3d_fullres", "-f", "0", "-p", plans, "-tr", FINE_TUNER, "-device", "cpu", "--disable_tta",
        "-npp", "0", "-nps", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(predicted.glob("*.nii.gz"))) == 6
