"""Fine-tuning by nnU-Net's own commands, in processes of their own, as a user gives them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NnUNetFolders
from training import DATASET, FINE_TUNER, change_plans, make_trainer, run_nnunet, with_fine_tuning, with_settings

from nnunet_volf.cli import main
from nnunet_volf.training_files import FINAL, LATEST


@pytest.fixture
def weights(phantoms: NnUNetFolders) -> Path:
    """Weights of a real, short pretraining."""
    trainer = make_trainer(with_settings("Pre", epochs=1, iterations=1))
    trainer.run_training()
    return Path(trainer.output_folder) / FINAL


def arguments(plans: str, *more: str) -> list[str]:
    return [DATASET, "3d_fullres", "0", "-p", plans, "-tr", FINE_TUNER, "-device", "cpu", *more]


def folder_of(folders: NnUNetFolders, plans: str) -> Path:
    return folders.results / DATASET / f"{FINE_TUNER}__{plans}__3d_fullres" / "fold_0"


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("training_log*")))


def started_from(checkpoint: Path) -> Any:
    return torch.load(checkpoint, weights_only=True)["nnunet_volf"]["started_from"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_user_is_told_what_the_weights_are_and_the_model_predicts_and_leaves_by_the_printed_command(
    phantoms: NnUNetFolders, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = with_fine_tuning(epochs=1)
    more = ("-pretrained_weights", str(weights), "--npz", "--val_best")
    done = run_nnunet("nnUNetv2_train", *arguments(plans, *more))
    assert done.returncode == 0, done.stdout + done.stderr
    folder = folder_of(phantoms, plans)
    assert f"Pretrained weights were loaded from {weights}.\n  {FINAL}: nnunet-volf, volume fusion" in log_of(folder)
    assert started_from(folder / FINAL)["file"] == FINAL
    assert list((folder / "validation").glob("*.npz")), "--npz is nnU-Net's"

    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(phantoms.raw / DATASET / "imagesTr" / "case_000_0000.nii.gz", images)
    model = ["-d", DATASET, "-c", "3d_fullres", "-p", plans, "-tr", FINE_TUNER, "-f", "0"]
    quick = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_tta"]
    done = run_nnunet("nnUNetv2_predict", "-i", str(images), "-o", str(tmp_path / "predicted"), *model, *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "predicted" / "case_000.nii.gz").is_file()

    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"nnunet-volf (weights export .*)", log_of(folder))
    assert main(shlex.split(command)) == 0
    assert (tmp_path / f"{DATASET}_stock" / "fold_0" / FINAL).is_file()


@pytest.mark.slow
def test_weights_that_do_not_fit_end_the_command_with_one_message_and_the_command_that_helps(
    phantoms: NnUNetFolders, weights: Path
) -> None:
    def thinner(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["kernel_sizes"][0] = [1, 3, 3]

    change_plans(thinner, target="Thinner")
    plans = with_fine_tuning(source="Thinner")
    done = run_nnunet("nnUNetv2_train", *arguments(plans, "-pretrained_weights", str(weights)))
    assert done.returncode != 0
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith(f"nnunet_volf.errors.WeightsError: {weights} does not fit {DATASET}, {plans}, 3d_fullres")
    assert f"nnunet-volf weights adapt {weights} -d 901 -p {plans} -c 3d_fullres -o " in told
    assert "AssertionError" not in done.stderr
    assert not (folder_of(phantoms, plans) / LATEST).exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_outright_in_its_first_epoch_it_goes_on_from_the_pretrained_weights(
    phantoms: NnUNetFolders, weights: Path
) -> None:
    plans = with_fine_tuning(epochs=2, iterations=10, save_every_epochs=1000)
    latest = folder_of(phantoms, plans) / LATEST
    script = shutil.which("nnUNetv2_train", path=str(Path(sys.executable).parent))
    assert script is not None
    process = subprocess.Popen(
        [script, *arguments(plans, "-pretrained_weights", str(weights))], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not latest.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()

    done = run_nnunet("nnUNetv2_train", *arguments(plans, "--c"))
    assert done.returncode == 0, done.stdout + done.stderr
    log = log_of(latest.parent)
    assert f"Going on. It started from pretrained weights: file {FINAL}, kind nnunet-volf" in log
    assert "scratch" not in log
    assert started_from(latest.parent / FINAL)["method"] == "volume fusion"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_checkpoints_it_leaves_none_and_names_no_file_to_export(phantoms: NnUNetFolders, weights: Path) -> None:
    plans = with_fine_tuning(epochs=1)
    done = run_nnunet(
        "nnUNetv2_train", *arguments(plans, "-pretrained_weights", str(weights), "--disable_checkpointing")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = folder_of(phantoms, plans)
    assert list(folder.rglob("*.pth")) == []
    assert (folder / "validation" / "summary.json").is_file()
    assert "weights export" not in log_of(folder)
