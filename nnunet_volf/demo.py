"""The demo, as data: its stages, the commands of each, how long they take, and which are done."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_volf.datasets import PREPROCESSED, RAW, RESULTS
from nnunet_volf.errors import VolFError
from nnunet_volf.files import read_json, write_json
from nnunet_volf.next_commands import fine_tune_command
from nnunet_volf.plans import OUR_PLANS
from nnunet_volf.pretext.catalogue import DEFAULT_METHOD, METHODS
from nnunet_volf.training_files import FINAL

NUMBER = 901
DATASET = f"Dataset{NUMBER}_Demo"
ARCHIVE = "Dataset501_Archive"
PROGRESS = "demo.json"

_CONFIGURATION = "3d_fullres"
_FINE_TUNING_PLANS = "DemoPlans"
_FASTER = {"learning_rate": "0.003"}  # of all arms: the schedule is a five-hundredth of nnU-Net's

# Seconds for which the expected times are trusted as much as this machine's own: the first stage alone says little.
_TRUSTED = 20.0

# A network that a CPU trains in minutes: an eighth of nnU-Net's width, and a patch that shows most of a scan, because
# the task needs context.
_SMALL = {"patch_size": [24, 24, 24], "batch_size": 2}
_SMALL_NETWORK = {
    "n_stages": 4,
    "features_per_stage": [8, 16, 32, 32],
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1], *[[2, 2, 2]] * 3],
    "n_conv_per_stage": [1, 1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1, 1],
}


@dataclass(frozen=True)
class Amount:
    """How much of everything: chosen by the time it takes, and so that training from scratch learns something in it."""

    scans: int
    cases: int
    test_cases: int
    pretraining: tuple[int, int]  # epochs, and steps an epoch
    training: tuple[int, int]
    arms: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: int
    seconds: Mapping[str, float]  # that each stage takes on two CPU cores; others are left out


FULL = Amount(
    scans=48,
    cases=26,
    test_cases=10,
    pretraining=(10, 150),
    training=(10, 50),
    arms=("scratch", "volf"),
    labels=(3, 10),
    seeds=3,  # with two, an interval for what differs from seed to seed says next to nothing
    seconds={"data": 1, "plan": 15, "pretrain": 115, "fine-tune": 55, "benchmark": 235},
)
QUICK = Amount(
    scans=8,
    cases=9,
    test_cases=3,
    pretraining=(2, 10),
    training=(2, 10),
    arms=("scratch", "volf"),
    labels=(3,),
    seeds=1,
    seconds={"data": 1, "plan": 15, "pretrain": 16, "benchmark": 14},
)


@dataclass(frozen=True)
class Stage:
    """A part of the demo: commands that a user could type, and what the demo itself does after them."""

    name: str
    purpose: str
    commands: tuple[tuple[str, ...], ...] = ()
    finish: Callable[[], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def stages(amount: Amount, folder: Path, processes: int) -> list[Stage]:
    """Return the stages in order."""
    dataset, on_cpu, weights = str(NUMBER), ("-device", "cpu"), pretrained_weights(folder)
    epochs, iterations = amount.training
    plan = ("nnUNetv2_plan_and_preprocess", "-d", dataset, "-c", _CONFIGURATION, "-npfp", "1", "-np", "1")
    pretrain = (
        *("nnunet-volf", "pretrain", str(folder / "archive"), "--for", dataset, *on_cpu, "-np", "0", "--set"),
        *_settings(*amount.pretraining),
    )
    settings = (
        *("nnunet-volf", "settings", dataset, "--fine-tune", "--as", _FINE_TUNING_PLANS, "--set"),
        *_settings(epochs, iterations, **_FASTER),
    )
    fine_tune = (*shlex.split(fine_tune_command(NUMBER, _FINE_TUNING_PLANS, _CONFIGURATION, weights)), *on_cpu)
    benchmark = (
        *("nnunet-volf", "benchmark", dataset, "--pretrained", str(weights), "--arms", *amount.arms),
        *("--labels", *map(str, amount.labels), "--seeds", str(amount.seeds), "--epochs", str(epochs)),
        *("--iterations", str(iterations), "--set", *_assignments(_FASTER), *on_cpu, "-np", str(processes)),
        *("-o", str(report(folder).parent)),
    )
    alike = {"nnUNet_n_proc_DA": "0"}  # batches drawn within the training: the arms of a seed see the same ones
    every = [
        Stage("data", "make up scans without labels, and a few with", finish=lambda: _write_data(folder, amount)),
        Stage("plan", "plan and preprocess the labelled scans", (plan,), lambda: _make_small(folder, amount)),
        Stage("pretrain", "learn from the scans without labels", (pretrain,)),
        Stage("fine-tune", "go on with a few labels, as you will", (settings, fine_tune)),
        Stage(
            "benchmark",
            "did it help? The same training with and without pretrained weights",
            (benchmark,),
            environment=alike,
        ),
    ]
    return [stage for stage in every if stage.name in amount.seconds]


def folders(folder: Path) -> dict[str, str]:
    """Return nnU-Net's variables, which name folders in the demo's own."""
    return {RAW: str(folder / "raw"), PREPROCESSED: str(folder / "preprocessed"), RESULTS: str(folder / "results")}


def environment(folder: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of the demo's commands; the user's own is left as it is."""
    # One process draws the batches and another learns from them, with a thread each. Where nnU-Net takes more threads
    # all the same, they sleep while they wait: on shared cores, spinning made a step take ten times as long.
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}
    no_compiler = {"nnUNet_compile": "0"}  # it would take longer than these trainings
    return {**base, **folders(folder), **threads, **no_compiler, "PYTHONUNBUFFERED": "1"}


def pretrained_weights(folder: Path) -> Path:
    """Return where the demo's pretraining puts its weights."""
    training = f"{METHODS[DEFAULT_METHOD].trainer}__{OUR_PLANS}__{_CONFIGURATION}"
    return folder / "results" / ARCHIVE / training / "fold_all" / FINAL


def report(folder: Path) -> Path:
    """Return the page that the demo ends with."""
    return folder / "benchmark" / "report.html"


def open_folder(folder: Path, quick: bool) -> dict[str, float]:
    """Make the demo's folder, or go on with the one that is there; return the seconds of each stage that is done."""
    path = folder / PROGRESS
    if path.is_file():
        there = read_json(path)
        if there["quick"] != quick:
            raise VolFError(
                f"{folder} holds a demo that was run {'with' if there['quick'] else 'without'} --quick. Run it like "
                "that again, or choose another folder with --folder."
            )
        return dict(there["took"])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise VolFError(f"{folder} is there and is no folder of a demo. Choose a new one with --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    note_progress(folder, quick, {})
    return {}


def note_progress(folder: Path, quick: bool, took: Mapping[str, float]) -> None:
    """Keep which stages are done and how long they took."""
    write_json(folder / PROGRESS, {"quick": quick, "took": dict(took)})


def seconds_left(amount: Amount, took: Mapping[str, float], to_do: Sequence[str]) -> float:
    """Guess how long some stages take, from how this machine did with those before."""
    expected = sum(amount.seconds[name] for name in took)
    pace = (sum(took.values()) + _TRUSTED) / (expected + _TRUSTED)
    return pace * sum(amount.seconds[name] for name in to_do)


def _settings(epochs: int, iterations: int, **others: str) -> list[str]:
    return _assignments({"epochs": epochs, "iterations": iterations, **others})


def _assignments(values: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def _write_data(folder: Path, amount: Amount) -> None:
    from nnunet_volf.demo_data import write_archive, write_labelled

    for place in folders(folder).values():
        Path(place).mkdir(exist_ok=True)
    labelled = folder / "raw" / DATASET
    write_labelled(labelled, amount.cases)
    write_archive(folder / "archive", amount.scans, labelled)


def _make_small(folder: Path, amount: Amount) -> None:
    """Make the planned network small, and let one fold hold out the test cases."""
    from nnunet_volf.demo_data import case_names

    dataset = folder / "preprocessed" / DATASET
    plans = read_json(dataset / "nnUNetPlans.json")
    configuration = plans["configurations"][_CONFIGURATION]
    configuration.update(_SMALL)
    configuration["architecture"]["arch_kwargs"].update(_SMALL_NETWORK)
    write_json(dataset / "nnUNetPlans.json", plans)
    names = case_names(amount.cases)
    test, training = names[-amount.test_cases :], names[: -amount.test_cases]
    write_json(dataset / "splits_final.json", [{"train": training, "val": test}])
