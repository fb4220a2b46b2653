"""The commands that kills.py kills, on small data: how each is started, and what it leaves that no kill may change."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import blosc2
import torch
from small_runs import (
    ARCHIVE,
    ARCHIVE_NUMBER,
    CONFIGURATION,
    FINE_TUNER,
    LABELLED,
    NUMBER,
    PLANS,
    PRETRAINER,
    fold_folder,
    run,
)

from nnunet_volf.case_notes import CASE_KEY, LOCATIONS_KEY, noted
from nnunet_volf.files import read_json
from nnunet_volf.training_files import FINAL, LATEST, SUMMARY

Environment = Mapping[str, str]
Outcome = dict[str, Any]

# Saved after every step, so that many moments are within saving.
SETTINGS = ("epochs=3", "iterations=3", "validation_samples=2", "panel_every=0", "save_every_epochs=1")
SAVING = "save_every_minutes=0.0001"


@dataclass(frozen=True)
class Stage:
    """One command that is killed, and what it leaves."""

    name: str
    words: Callable[[Environment], list[str]]
    outcome: Callable[[Environment], Outcome]


def prepare(stage: str, environment: Environment) -> None:
    """Do what comes before a stage and is none."""
    if stage == "preprocess":
        words = ["-d", ARCHIVE_NUMBER, "--for", NUMBER, "--as", PLANS, "--set", *SETTINGS, SAVING]
        run(environment, "nnunet-volf", "plan", *words)
    if stage == "fine-tune":
        shorter = ["epochs=3", "iterations=3", "save_every_epochs=1", SAVING]
        run(environment, "nnunet-volf", "settings", NUMBER, "--fine-tune", "--set", *shorter, "--as", "VolFFine")


def import_words(environment: Environment) -> list[str]:
    """Import the scans."""
    scans = Path(environment["nnUNet_raw"]).parent / "scans"
    words = ["import", str(scans), "-d", ARCHIVE_NUMBER, "-n", "Archive", "--for", NUMBER, "-np", "1"]
    return ["nnunet-volf", *words, "--most-refused", "1"]


def imported(environment: Environment) -> Outcome:
    """Return all files of an import that hold no times."""
    folder = Path(environment["nnUNet_raw"]) / ARCHIVE
    names = ("dataset.json", "import/manifest.jsonl", "import/quarantine.csv")
    files = [*(folder / name for name in names), *folder.glob("converted/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def preprocess_words(_: Environment) -> list[str]:
    """Preprocess them."""
    return ["nnunet-volf", "preprocess", "-d", ARCHIVE_NUMBER, "-p", PLANS, "-np", "1"]


def preprocessed(environment: Environment) -> Outcome:
    """Return voxels and notes of all cases."""
    found: Outcome = {}
    for path in (Path(environment["nnUNet_preprocessed"]) / ARCHIVE / f"{PLANS}_{CONFIGURATION}").glob("*.b2nd"):
        case = blosc2.open(urlpath=str(path), mode="r")
        notes = (noted(case.schunk, CASE_KEY), noted(case.schunk, LOCATIONS_KEY))
        found[path.name] = (sha256(case[:].tobytes()).hexdigest(), *notes)
    return found


def pretrain_words(_: Environment) -> list[str]:
    """Pretrain on them; the command says by itself whether there is something to go on from."""
    words = ["pretrain", ARCHIVE_NUMBER, "--for", NUMBER, "--as", PLANS, "-device", "cpu", "-np", "0"]
    return ["nnunet-volf", *words, "--set", *SETTINGS, SAVING]


def pretraining_folder(environment: Environment) -> Path:
    """Return where the pretraining is."""
    return fold_folder(environment, ARCHIVE, PRETRAINER, PLANS, "all")


def pretrained(environment: Environment) -> Outcome:
    """Return weights and scores."""
    folder = pretraining_folder(environment)
    return {"files": files_in(folder), "weights": weights_in(folder), **read_json(folder / SUMMARY)}


def fine_tune_words(environment: Environment) -> list[str]:
    """Fine-tune from it; as nnU-Net has it, going on is asked for by --c once there is a checkpoint."""
    words = [NUMBER, CONFIGURATION, "0", "-p", "VolFFine", "-tr", FINE_TUNER, "-device", "cpu"]
    begun = (fine_tuning_folder(environment) / LATEST).is_file() or (fine_tuning_folder(environment) / FINAL).is_file()
    weights = ["-pretrained_weights", str(pretraining_folder(environment) / FINAL)]
    return ["nnUNetv2_train", *words, *(["--c"] if begun else weights)]


def fine_tuning_folder(environment: Environment) -> Path:
    """Return where the fine-tuning is."""
    return fold_folder(environment, LABELLED, FINE_TUNER, "VolFFine", "0")


def fine_tuned(environment: Environment) -> Outcome:
    """Return weights, and the scores of the final validation."""
    folder = fine_tuning_folder(environment)
    scores = read_json(folder / "validation" / "summary.json")
    return {"files": files_in(folder), "weights": weights_in(folder), "scores": scores["mean"]}


def benchmark_words(environment: Environment) -> list[str]:
    """Compare two arms."""
    weights = str(pretraining_folder(environment) / FINAL)
    words = ["benchmark", NUMBER, "--pretrained", weights, "--arms", "scratch", "volf", "--labels", "2", "--seeds", "1"]
    short = ["--epochs", "2", "--iterations", "2", "--validation-iterations", "1", "--no-mirroring", "-device", "cpu"]
    return ["nnunet-volf", *words, *short, "-o", str(benchmark_folder(environment))]


def benchmark_folder(environment: Environment) -> Path:
    """Return where the benchmark is."""
    return Path(environment["nnUNet_results"]) / "benchmark"


def benchmarked(environment: Environment) -> Outcome:
    """Return all results but how long they took."""
    with (benchmark_folder(environment) / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    found = [str(path.relative_to(benchmark_folder(environment))) for path in benchmark_folder(environment).rglob("*")]
    return {"files": sorted(name for name in found if "log" not in name), "results": rows}


def weights_in(folder: Path) -> str:
    """Return a hash over the weights of a finished training."""
    weights = torch.load(folder / FINAL, map_location="cpu", weights_only=True)["network_weights"]
    return sha256(b"".join(name.encode() + value.numpy().tobytes() for name, value in weights.items())).hexdigest()


def files_in(folder: Path) -> list[str]:
    """Return which files a training leaves; a log for each start is none that counts."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in found if not name.startswith("training_log"))


STAGES = {
    stage.name: stage
    for stage in (
        Stage("import", import_words, imported),
        Stage("preprocess", preprocess_words, preprocessed),
        Stage("pretrain", pretrain_words, pretrained),
        Stage("fine-tune", fine_tune_words, fine_tuned),
        Stage("benchmark", benchmark_words, benchmarked),
    )
}
