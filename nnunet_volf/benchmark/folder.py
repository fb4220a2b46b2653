"""The folder of a benchmark: one question, what its trainings gave, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.results import Failure, Outcome, Run
from nnunet_volf.errors import BenchmarkError
from nnunet_volf.files import read_json, write_json
from nnunet_volf.finetune_settings import BEFORE_IT_EXISTED, FineTuneSettings
from nnunet_volf.locks import only_one

EXPERIMENT, RESULT, FAILED, LOG = "experiment.json", "result.json", "failed.json", "log.txt"
IMAGES = "images.json"  # hashes of what images show, noted before the question is
LOCK = "lock"

# What a folder may be asked next without its results losing their meaning: more, or fewer, of the same trainings.
_MAY_CHANGE = ("arms", "labels", "seeds", "rates", "cases", "data")


def run_folder(folder: Path, run: Run) -> Path:
    """Return the folder of one training."""
    return folder / "runs" / run.name


def predictions_folder(folder: Path, run: Run) -> Path:
    """Return where the segmentations of the test cases lie."""
    return run_folder(folder, run) / "predictions"


def read_experiment(path: Path) -> Experiment:
    """Read the question of a benchmark."""
    return Experiment.from_mapping(read_json(path))


def open_folder(folder: Path, experiment: Experiment) -> None:
    """Make the folder of a benchmark, or go on with the one that is there; another question is refused."""
    path = folder / EXPERIMENT
    if path.is_file():
        _require_same(folder, read_experiment(path), experiment)
    elif folder.exists() and any(path.name not in (IMAGES, LOCK) for path in folder.iterdir()):
        raise BenchmarkError(f"{folder} holds other files and no {EXPERIMENT}. Choose an empty folder with -o.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, experiment.to_mapping())


def only_benchmark(folder: Path) -> AbstractContextManager[None]:
    """Keep a second benchmark from doing the same trainings in a folder meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    return only_one(folder / LOCK, f"Another benchmark in {folder}")


def outcome_of(folder: Path, run: Run) -> Outcome | None:
    """Return the result of a training, if it is done."""
    path = run_folder(folder, run) / RESULT
    return Outcome.from_mapping(read_json(path)) if path.is_file() else None


def failure_of(folder: Path, run: Run) -> Failure | None:
    """Return why a training failed, if it did."""
    path = run_folder(folder, run) / FAILED
    if not path.is_file():
        return None
    return Failure(run, read_json(path)["reason"], str((run_folder(folder, run) / LOG).relative_to(folder)))


def note_failure(folder: Path, run: Run, reason: str) -> None:
    """Keep why a training failed."""
    write_json(run_folder(folder, run) / FAILED, {"reason": reason})


def collect(folder: Path, runs: Sequence[Run]) -> tuple[list[Outcome], list[Failure]]:
    """Return all that is there of some trainings."""
    outcomes = [outcome for run in runs if (outcome := outcome_of(folder, run)) is not None]
    done = {outcome.run for outcome in outcomes}
    failures = [f for run in runs if run not in done and (f := failure_of(folder, run)) is not None]
    return outcomes, failures


def _require_same(folder: Path, before: Experiment, now: Experiment) -> None:
    old, new = before.to_mapping(), now.to_mapping()
    without = {**FineTuneSettings().to_mapping(), **BEFORE_IT_EXISTED}
    for question in (old, new):
        question["settings"] = {**without, **question["settings"]}
    changed = [_difference(name, old[name], new[name]) for name in old if name not in _MAY_CHANGE]
    changed.append(_difference("the hash of the plans", before.data.get("plans"), now.data.get("plans")))
    changed += [
        _difference(f"arm {arm.name}", _start(before, arm.name), _start(now, arm.name))
        for arm in now.arms
        if arm.name in {known.name for known in before.arms}
    ]
    changed += [
        _difference(f"cases of fold {f}", before.cases[f], c) for f, c in now.cases.items() if f in before.cases
    ]
    if before.cases.keys() == now.cases.keys():
        hashes = (experiment.data.get("labelled images") for experiment in (before, now))
        changed.append(_difference("the hash of the labelled images", *hashes))
    said = [text for text in changed if text]
    if said:
        raise BenchmarkError(
            f"{folder} holds the results of another question: {'; '.join(said)}. Ask the old one again to go on with "
            "it, or choose another folder with -o."
        )


def _start(experiment: Experiment, name: str) -> str:
    """Say what an arm starts from, by content: the same weights may lie elsewhere by now."""
    arm = experiment.arm(name)
    weights = experiment.data.get("weights", {}).get(name)
    return arm.trainer if weights is None else f"{arm.trainer} from {arm.scope} of the weights with SHA-256 {weights}"


def _difference(name: str, old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        inner = (_difference(f"{name}.{key}", old.get(key), new.get(key)) for key in {**old, **new})
        return "; ".join(text for text in inner if text)
    shown = [text if len(text := str(value)) <= 120 else f"{text[:117]}..." for value in (old, new)]
    return "" if old == new else f"{name} was {shown[0]} and is {shown[1]}"
