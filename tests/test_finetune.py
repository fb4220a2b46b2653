"""The fine-tuning trainer in real nnU-Net on phantoms: what it starts from, its schedule, and going on after a kill."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from often import often
from training import DATASET, FINE_TUNER, change_plans, make_trainer, weights_of, with_fine_tuning, with_settings

from nnunet_volf.errors import SettingsError, TrainingError, WeightsError
from nnunet_volf.filter_sizes import filter_sizes
from nnunet_volf.optimizers import make_optimizer
from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.provenance import versions
from nnunet_volf.training_files import EXIT_REQUEUE

LATEST, FINAL = "checkpoint_latest.pth", "checkpoint_final.pth"


@pytest.fixture(autouse=True)
def short_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """One validation step an epoch in place of nnU-Net's 50."""
    make = nnUNetTrainer.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self.num_val_iterations_per_epoch = 1

    init.__signature__ = inspect.signature(make)  # type: ignore[attr-defined]  # which nnU-Net reads
    monkeypatch.setattr(nnUNetTrainer, "__init__", init)


def fine_tuner(plans: str, configuration: str = "3d_fullres", resume: bool = False) -> Any:
    return make_trainer(plans, FINE_TUNER, configuration, resume=resume)


def folder_of(folders: NnUNetFolders, plans: str, configuration: str = "3d_fullres") -> Path:
    return folders.results / DATASET / f"{FINE_TUNER}__{plans}__{configuration}" / "fold_0"


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("training_log*")))


def run(trainer: Any, stop_at: int | None = None) -> list[list[float]]:
    """Train; before step `stop_at` ask to stop. Returns the rates of all groups at each step."""
    step, rates = trainer.train_step, []

    def counted(batch: dict[str, Any]) -> dict[str, Any]:
        if trainer.current_epoch * trainer.num_iterations_per_epoch + trainer.iteration == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        output: dict[str, Any] = step(batch)
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        return output

    trainer.train_step = counted
    trainer.run_training()
    return rates


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def pretrained_file(folder: Path, plans: str, configuration: str = "3d_fullres") -> Path:
    """Weights that no initialisation would give, as nnU-Net stores them."""
    trainer = fine_tuner(plans, configuration)
    trainer.initialize()
    weights = {name: torch.full_like(tensor, 0.01) for name, tensor in trainer.network.state_dict().items()}
    torch.save({"network_weights": weights}, folder / "pretrained.pth")
    return folder / "pretrained.pth"


def loaded(trainer: Any, file: Path) -> Any:
    """A trainer as nnUNetv2_train -pretrained_weights makes it."""
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(file))
    return trainer


def as_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/env/bin/nnUNetv2_train", DATASET, "3d_fullres", "0", *arguments])


# ----------------------------------------------------------------------------------- what it starts from


def test_without_weights_the_log_says_that_this_is_the_scratch_arm(phantoms: NnUNetFolders) -> None:
    plans = with_fine_tuning(epochs=1)
    run(fine_tuner(plans))
    log = log_of(folder_of(phantoms, plans))
    assert "No pretrained weights: this is the scratch arm, with the same schedule" in log
    assert "'epochs': 1" in log
    kept = torch.load(folder_of(phantoms, plans) / FINAL, weights_only=True)["nnunet_volf"]
    assert (kept["method"], kept["started_from"]) == ("fine-tuning", None)
    assert kept["settings"]["epochs"] == 1
    assert kept["versions"] == versions()


def test_the_weights_that_were_loaded_are_trained_and_named_in_log_and_checkpoint(
    phantoms: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = with_fine_tuning(epochs=1, iterations=1, learning_rate=1e-8, filter_sizes="loaded")
    file = pretrained_file(tmp_path, plans)
    as_command(monkeypatch, "-p", plans, "-tr", FINE_TUNER, "-pretrained_weights", str(file))
    run(loaded(fine_tuner(plans), file))
    assert f"Pretrained weights were loaded from {file}." in log_of(folder_of(phantoms, plans))
    weights = weights_of(folder_of(phantoms, plans) / FINAL)
    assert all(torch.allclose(w, torch.tensor(0.01)) for name, w in weights.items() if "seg_layers" not in name)
    kept = torch.load(folder_of(phantoms, plans) / FINAL, weights_only=True)["nnunet_volf"]
    assert kept["started_from"]["file"] == "pretrained.pth"
    assert "WARNING: the file does not say how its images were prepared" in log_of(folder_of(phantoms, plans))


def test_weights_of_our_pretraining_are_described_and_warned_about_in_numbers(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretraining = make_trainer(with_settings("Pre", epochs=1, iterations=1))
    pretraining.run_training()
    file = Path(pretraining.output_folder) / FINAL

    def coarser(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["spacing"] = [3.0, 1.0, 1.0]

    change_plans(coarser, target="Coarse")
    plans = with_fine_tuning(epochs=1, iterations=1, source="Coarse")
    as_command(monkeypatch, "-p", plans, "-tr", FINE_TUNER, "-pretrained_weights", str(file))
    run(loaded(fine_tuner(plans), file))
    log = log_of(folder_of(phantoms, plans))
    assert f"loaded from {file}.\n  {FINAL}: nnunet-volf, volume fusion, nnUNetTrainerVolF\n" in log
    assert "WARNING: pretrained at 1 x 1 x 1 mm, the task is at 3 x 1 x 1 mm" in log
    kept = torch.load(folder_of(phantoms, plans) / FINAL, weights_only=True)["nnunet_volf"]["started_from"]
    assert (kept["method"], kept["trainer"], kept["dataset"]) == ("volume fusion", "nnUNetTrainerVolF", DATASET)


def test_of_weights_of_an_encoder_it_is_said_once_and_the_training_is_the_same(
    phantoms: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = {}
    for name in ("volf", "voco"):
        plans = with_fine_tuning(name, epochs=1, iterations=1)
        file, method = pretrained_file(tmp_path, plans), METHODS[name]
        content = torch.load(file, weights_only=True)
        content["nnunet_volf"] = {"method": method.label, "transfers": list(method.transfers)}
        torch.save(content, file)
        as_command(monkeypatch, "-p", plans, "-tr", FINE_TUNER, "-pretrained_weights", str(file))
        run(loaded(fine_tuner(plans), file))
        logs[name] = log_of(folder_of(phantoms, plans))
        kept = torch.load(folder_of(phantoms, plans) / FINAL, weights_only=True)["nnunet_volf"]
        assert kept["started_from"]["trained"] == " and ".join(method.transfers)
        assert "transfers" not in kept, "a fine-tuning trains all of the network"
    assert_same_weights(folder_of(phantoms, "volf") / FINAL, folder_of(phantoms, "voco") / FINAL)
    said = "only its encoder was trained; its decoder is as it was initialised, as in training from scratch"
    assert (logs["volf"].count(said), logs["voco"].count(said)) == (0, 1)


def test_weights_that_do_not_fit_are_refused_with_the_command_that_adapts_them(
    phantoms: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pretrained_file(tmp_path, with_fine_tuning())

    def thinner(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["kernel_sizes"][0] = [1, 3, 3]

    change_plans(thinner, target="Thinner")
    plans = with_fine_tuning(source="Thinner")
    as_command(monkeypatch, "-p", plans, "-tr", FINE_TUNER, "-pretrained_weights", str(file))
    trainer = fine_tuner(plans)
    with pytest.raises(WeightsError, match=rf"does not fit .*nnunet-volf weights adapt .* -d 901 -p {plans} "):
        trainer.initialize()


def test_weights_of_a_file_that_nobody_names_are_noticed_all_the_same(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    plans = with_fine_tuning(epochs=1, iterations=1)
    run(loaded(fine_tuner(plans), pretrained_file(tmp_path, plans)))
    assert "Pretrained weights were loaded from a file that nnU-Net does not name." in log_of(
        folder_of(phantoms, plans)
    )
    assert torch.load(folder_of(phantoms, plans) / FINAL, weights_only=True)["nnunet_volf"]["started_from"] == {}


def test_a_file_that_was_named_but_not_loaded_stops_before_the_first_step(
    phantoms: NnUNetFolders, tmp_path: Path
) -> None:
    plans = with_fine_tuning()
    trainer = fine_tuner(plans)
    trainer.pretrained_weights = pretrained_file(tmp_path, plans)
    with pytest.raises(TrainingError, match=r"pretrained\.pth was named, but nothing was loaded"):
        trainer.run_training()


def test_a_training_stopped_before_its_first_step_goes_on_with_the_pretrained_weights(
    phantoms: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = with_fine_tuning(save_every_epochs=1000)
    file = pretrained_file(tmp_path, plans)
    trainer = loaded(fine_tuner(plans), file)

    def die(_batch: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train_step", die)
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    resumed = fine_tuner(plans, resume=True)
    assert (resumed.current_epoch, resumed.iteration) == (0, 0)
    weights = dict(resumed.network.named_parameters())
    assert all(torch.all(w == 0.01) for name, w in weights.items() if "transpconvs" in name)
    for size, own in zip(filter_sizes(resumed.filters), trainer.initial_sizes, strict=True):
        torch.testing.assert_close(size, own)
    run(resumed)
    calm = with_fine_tuning("Calm", save_every_epochs=1000)
    run(loaded(fine_tuner(calm), file))
    assert_same_weights(folder_of(phantoms, plans) / FINAL, folder_of(phantoms, calm) / FINAL)
    assert "It started from pretrained weights" in log_of(folder_of(phantoms, plans))


@pytest.mark.parametrize("asked", ["initial", "loaded"])
def test_pretrained_filters_get_the_size_of_a_new_networks_unless_told_otherwise(
    phantoms: NnUNetFolders, tmp_path: Path, asked: str
) -> None:
    plans = with_fine_tuning(filter_sizes=asked, epochs=1, iterations=1, learning_rate=1e-8, cpu_precision="float32")
    other = fine_tuner(plans)
    other.initialize()
    weights = other.network.state_dict()
    torch.save({"network_weights": {n: w * 3 for n, w in weights.items()}}, tmp_path / "grown.pth")
    trainer = loaded(fine_tuner(plans), tmp_path / "grown.pth")
    images = torch.randn(1, 1, *trainer.configuration_manager.patch_size)
    computed = trainer.network(images)
    run(trainer)
    grown = [float(now.mean() / own.mean()) for now, own in zip(
        filter_sizes(trainer.filters), trainer.initial_sizes, strict=True
    )]  # fmt: skip
    assert grown == pytest.approx([1.0 if asked == "initial" else 3.0] * len(grown), rel=0.2)
    for now, before in zip(trainer.network(images), computed, strict=True):
        torch.testing.assert_close(now, before, atol=1e-3, rtol=1e-3)
    said = "and have the size of a new network's again: they were up to 3." in log_of(folder_of(phantoms, plans))
    assert said is (asked == "initial")


def test_continuing_without_any_checkpoint_warns_that_it_is_a_new_scratch_training(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = with_fine_tuning(epochs=1, iterations=1)
    as_command(monkeypatch, "-p", plans, "-tr", FINE_TUNER, "--c")
    run(fine_tuner(plans, resume=True))
    assert "WARNING: --c found no checkpoint to continue" in log_of(folder_of(phantoms, plans))


# ---------------------------------------------------------------------------------------- the schedule


def test_the_rate_of_each_group_follows_the_schedule_step_by_step(phantoms: NnUNetFolders) -> None:
    shares = {"first": "decoder", "first_share": 0.25, "warmup": 0.25}
    plans = with_fine_tuning(epochs=4, iterations=2, **shares, learning_rate=0.1, layer_decay=0.5, heads_rate=3)
    rates = run(fine_tuner(plans))
    heads, *decoder = zip(*rates, strict=True)
    last = (1 - 1 / 2) ** 0.9
    of_the_plan = [0.05, 0.1, 0.05, 0.1, 0.1, 0.1, 0.1 * last, 0.1 * last]
    assert heads == pytest.approx([3 * rate for rate in of_the_plan])
    assert decoder[0] == pytest.approx([rate / 2 for rate in of_the_plan]), "the last stage of the decoder"
    stem = decoder[-1]
    assert stem[:2] == (0, 0), "the encoder waits while the decoder is trained alone"
    assert stem[2:] == pytest.approx([rate * 0.5**5 for rate in of_the_plan[2:]])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_part_that_waits_keeps_its_weights_bit_for_bit(
    phantoms: NnUNetFolders, tmp_path: Path, optimizer: str
) -> None:
    asked = {"first": "decoder", "first_share": 0.9, "weight_decay": 0.5, "filter_sizes": "loaded"}
    plans = with_fine_tuning(**asked, epochs=1, optimizer=optimizer)
    trainer = loaded(fine_tuner(plans), pretrained_file(tmp_path, plans))
    steps = 2
    trainer.num_iterations_per_epoch = steps  # of the 3 that the schedule counts with
    run(trainer)
    weights = dict(trainer.network.named_parameters())
    assert all(torch.all(w == 0.01) for name, w in weights.items() if name.startswith("encoder."))
    assert not all(torch.all(w == 0.01) for name, w in weights.items() if name.startswith("decoder.stages."))


def test_our_sgd_is_the_one_of_nnunet(phantoms: NnUNetFolders) -> None:
    theirs = make_trainer(with_fine_tuning(), "nnUNetTrainer")
    theirs.initialize()
    optimizer, _ = theirs.configure_optimizers()
    ours = make_optimizer("sgd", theirs.network.parameters(), theirs.initial_lr, theirs.weight_decay)
    assert ours.defaults == optimizer.defaults
    assert type(ours) is type(optimizer)


def test_the_preset_nnunet_gives_the_weights_of_a_stock_training(phantoms: NnUNetFolders) -> None:
    plans = with_fine_tuning(preset="nnunet", epochs=3, iterations=2)
    ours = fine_tuner(plans)
    run(ours)
    stock = make_trainer(plans, "nnUNetTrainer")
    stock.num_epochs, stock.num_iterations_per_epoch = 3, 2
    stock.run_training()
    expected = stock.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.network.state_dict().items())


def test_settings_that_are_wrong_stop_before_anything_is_made(phantoms: NnUNetFolders) -> None:
    with pytest.raises(SettingsError, match="Did you mean 'epochs'"):
        fine_tuner(with_fine_tuning(epoch=3))


# -------------------------------------------------------------------------------------------- going on

RISING = {"first": "heads", "first_share": 0.3, "warmup": 0.4, "layer_decay": 0.8, "heads_rate": 4.0}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_at", often([0, 1, 3], 1))
def test_a_training_stopped_within_its_rising_stages_and_resumed_ends_in_identical_weights(
    phantoms: NnUNetFolders, tmp_path: Path, stop_at: int, optimizer: str
) -> None:
    calm, stopped = (with_fine_tuning(name, **RISING, optimizer=optimizer) for name in ("Calm", "Stopped"))
    file = pretrained_file(tmp_path, calm)
    run(loaded(fine_tuner(calm), file))
    with pytest.raises(SystemExit) as left:
        run(loaded(fine_tuner(stopped), file), stop_at)
    assert left.value.code == EXIT_REQUEUE
    run(fine_tuner(stopped, resume=True))
    assert_same_weights(folder_of(phantoms, stopped) / FINAL, folder_of(phantoms, calm) / FINAL)


def test_settings_that_change_the_optimizer_cannot_change_within_a_training(phantoms: NnUNetFolders) -> None:
    run(fine_tuner(with_fine_tuning("Changed", epochs=1, iterations=1, optimizer="sgd")))
    with_fine_tuning("Changed", epochs=2, optimizer="adamw", layer_decay=0.5)
    with pytest.raises(TrainingError, match=r"optimizer sgd -> adamw, layer_decay 1.0 -> 0.5.*Set optimizer=sgd"):
        fine_tuner("Changed", resume=True)


def test_a_weight_decay_that_was_changed_takes_effect_when_the_training_goes_on(phantoms: NnUNetFolders) -> None:
    run(fine_tuner(with_fine_tuning("Changed", epochs=1, iterations=1, layer_decay=0.5)))
    resumed = fine_tuner(with_fine_tuning("Changed", epochs=2, weight_decay=0.125, layer_decay=0.5), resume=True)
    assert {group["weight_decay"] for group in resumed.optimizer.param_groups} == {0.125}


def test_a_finished_training_can_be_extended_and_says_what_changed(phantoms: NnUNetFolders) -> None:
    run(fine_tuner(with_fine_tuning("Grown", epochs=1, iterations=1)))
    trainer = fine_tuner(with_fine_tuning("Grown", epochs=2, iterations=1, learning_rate=0.001), resume=True)
    rates = run(trainer)
    assert len(rates) == 1
    assert rates[0][0] == pytest.approx(0.001 * 0.5**0.9)
    log = log_of(folder_of(phantoms, "Grown"))
    assert "Settings changed since the checkpoint: epochs 1 -> 2, learning_rate None -> 0.001" in log
    assert "Going on. It started without pretrained weights, as a scratch arm." in log


# ---------------------------------------------------------------------- the kinds of tasks nnU-Net knows


def residual(plans: dict[str, Any]) -> None:
    """A residual encoder, of nnU-Net's ResEnc presets."""
    network = plans["configurations"]["3d_fullres"]["architecture"]
    network["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    network["arch_kwargs"]["n_blocks_per_stage"] = network["arch_kwargs"].pop("n_conv_per_stage")


def describe_labels(labels: dict[str, Any], **more: Any) -> None:
    """Give the phantoms' labels another meaning, which their preprocessed files know too."""
    for root in ("nnUNet_raw", "nnUNet_preprocessed"):
        file = Path(os.environ[root]) / DATASET / "dataset.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "labels": labels, **more}))
    preprocess([901], configurations=["3d_fullres"], num_processes=[1])


def assert_trains_and_validates(phantoms: NnUNetFolders, plans: str, configuration: str = "3d_fullres") -> None:
    trainer = fine_tuner(plans, configuration)
    run(trainer)
    trainer.perform_actual_validation()
    folder = folder_of(phantoms, plans, configuration)
    assert (folder / "validation" / "summary.json").is_file()
    assert f"nnunet-volf weights export {folder.parent} --as-stock -o {DATASET}_stock" in log_of(folder)


GROUPED = {"epochs": 1, "iterations": 2, "first": "heads", "first_share": 0.5, "layer_decay": 0.7}


def test_two_dimensions(phantoms: NnUNetFolders) -> None:
    assert_trains_and_validates(phantoms, with_fine_tuning(configuration="2d", **GROUPED), "2d")


def test_a_residual_encoder(phantoms: NnUNetFolders) -> None:
    change_plans(residual, target="Residual")
    assert_trains_and_validates(phantoms, with_fine_tuning(source="Residual", **GROUPED))


def test_regions(phantoms: NnUNetFolders) -> None:
    describe_labels({"background": 0, "both": [1, 2], "second": 2}, regions_class_order=[1, 2])
    assert_trains_and_validates(phantoms, with_fine_tuning(**GROUPED))


def test_an_ignored_label(phantoms: NnUNetFolders) -> None:
    describe_labels({"background": 0, "first": 1, "ignore": 2})
    assert_trains_and_validates(phantoms, with_fine_tuning(**GROUPED))


def cascaded(plans: dict[str, Any]) -> None:
    """Two stages on the same voxels: what matters is that the second sees what the first has segmented."""
    stages = plans["configurations"]
    first = {**stages["3d_fullres"], "next_stage": "3d_cascade_fullres"}
    stages["3d_lowres"] = first
    stages["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}


def test_a_cascade(phantoms: NnUNetFolders) -> None:
    change_plans(cascaded, target="Cascade")
    plans = with_fine_tuning(configuration="3d_lowres", source="Cascade", epochs=1, iterations=1)
    with_fine_tuning(configuration="3d_cascade_fullres", source=plans, **GROUPED)
    first = make_trainer(plans, FINE_TUNER, "3d_lowres", fold="all")  # validates all cases, which the second trains on
    run(first)
    first.perform_actual_validation()
    second = make_trainer(plans, FINE_TUNER, "3d_cascade_fullres", fold="all")
    assert len(run(second)) == 2
    stem = next(iter(second.network.encoder.parameters()))
    assert stem.shape[1] == 1 + 2, "the image, and a channel for each label that the first stage knows"
