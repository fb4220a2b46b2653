"""Kill -9 at random moments of each stage, run the same command again, and compare with an undisturbed run.

Import, preprocess, pretrain, fine-tune and benchmark, on small data. A run is killed with all its processes at a moment
drawn from the whole time that an undisturbed run takes, start-up and saving included, and the same command is run
again. Where it comes to its end before it is killed, what it leaves is compared, and the stage begins anew, until it
has been killed often enough. Nothing may be lost, differ, or be left half-written. Exit code 1 where something is.

    python benchmarks/kills.py [--kills 20] [--stages import preprocess pretrain fine-tune benchmark] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import blosc2
import torch
from process_tree import with_children
from small_runs import (
    ARCHIVE,
    ARCHIVE_NUMBER,
    CONFIGURATION,
    FINE_TUNER,
    NUMBER,
    PLANS,
    PRETRAINER,
    command,
    fold_folder,
    run,
    small_environment,
    write_labelled,
    write_scans,
)

from nnunet_volf.case_notes import CASE_KEY, LOCATIONS_KEY, noted
from nnunet_volf.training_files import FINAL, LATEST

Environment = Mapping[str, str]
Outcome = dict[str, Any]

# Saved after every step, so that many moments are within saving.
SETTINGS = ("epochs=3", "iterations=3", "validation_samples=2", "panel_every=0", "save_every_epochs=1")
SAVING = "save_every_minutes=0.0001"
HALF_WRITTEN = ("*.tmp", ".unfinished/*", ".*.nii.gz")


@dataclass(frozen=True)
class Stage:
    """One command that is killed, and what it leaves."""

    name: str
    words: Callable[[Environment], list[str]]
    outcome: Callable[[Environment], Outcome]


@dataclass
class Record:
    """What became of a stage."""

    stage: str
    kills: int = 0
    started_work: int = 0  # of the kills, those after something had been written
    rounds: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> int:
    """Kill, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each stage [%(default)s]")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        records = campaign(Path(place), args.stages, args.kills, args.seed, say=partial(print, flush=True))
    print("\n".join(table(records)))
    return 1 if any(record.faults for record in records) else 0


def campaign(
    place: Path, stages: list[str], kills: int, seed: int, say: Callable[[str], None] = lambda _: None
) -> list[Record]:
    """Go through the stages in order, each from what the one before leaves when it is not disturbed."""
    work, templates = place / "work", place / "templates"
    environment = {**small_environment(work, 0), **seeded(place / "seeded")}
    write_labelled(environment, 5, (22, 34, 28), (16, 24, 20), (4, 8, 8))
    write_scans(work / "scans", 6, (22, 34, 28))
    (work / "scans" / "broken.nii.gz").write_bytes(b"no scan")
    moments, records = random.Random(seed), list[Record]()
    for stage in list(STAGES.values())[: 1 + max(list(STAGES).index(name) for name in stages)]:
        prepare(stage.name, environment)
        template = templates / stage.name
        shutil.copytree(work, template)
        started = time.monotonic()
        end_undisturbed(stage, environment)
        seconds, expected = time.monotonic() - started, stage.outcome(environment)
        if stage.name in stages:
            after = templates / f"after {stage.name}"
            shutil.copytree(work, after)
            say(f"{stage.name}: {seconds:.0f} s undisturbed")
            records.append(Record(stage.name))
            kill_often(records[-1], stage, environment, work, template, (seconds, expected), kills, moments, say)
            restore(after, work)
    return records


# Run by every Python when it starts. torch seeds itself from the clock, and is seeded anew as soon as it is imported;
# importing it here would have each small process load it.
SEEDING = """
import importlib.util, random, sys
import numpy

random.seed(7)
numpy.random.seed(7)

class TorchSeeded:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec("torch")
        load = spec.loader.exec_module

        def load_and_seed(module):
            load(module)
            module.manual_seed(7)

        spec.loader.exec_module = load_and_seed
        return spec

sys.meta_path.insert(0, TorchSeeded)
"""


def seeded(folder: Path) -> dict[str, str]:
    """Return what makes every Python begin with the same random numbers, so that trainings can be compared."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SEEDING)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def prepare(stage: str, environment: Environment) -> None:
    """Do what comes before a stage and is none."""
    if stage == "preprocess":
        words = ["-d", ARCHIVE_NUMBER, "--for", NUMBER, "--as", PLANS, "--set", *SETTINGS, SAVING]
        run(environment, "nnunet-volf", "plan", *words)
    if stage == "fine-tune":
        shorter = ["epochs=3", "iterations=3", "save_every_epochs=1", SAVING]
        run(environment, "nnunet-volf", "settings", NUMBER, "--fine-tune", "--set", *shorter, "--as", "VolFFine")


def kill_often(
    record: Record,
    stage: Stage,
    environment: Environment,
    work: Path,
    template: Path,
    undisturbed: tuple[float, Outcome],
    kills: int,
    moments: random.Random,
    say: Callable[[str], None],
) -> None:
    """Kill a stage so often, each time running the same command again, and compare wherever it comes to its end."""
    seconds, expected = undisturbed
    restore(template, work)
    untouched = state_of(work)
    while record.kills < kills:
        process = start(stage, environment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, seconds))
        if process.poll() is None:
            kill_all(process)
            record.kills += 1
            record.started_work += state_of(work) != untouched
            say(f"{stage.name}: killed {record.kills} times, compared {record.rounds} times, faults {record.faults}")
            continue
        record.faults += ended_badly(process, stage)
        finish_round(record, stage, environment, expected, work)
        restore(template, work)
    end_undisturbed(stage, environment)
    finish_round(record, stage, environment, expected, work)


def finish_round(record: Record, stage: Stage, environment: Environment, expected: Outcome, work: Path) -> None:
    """Compare what a stage has left with what it leaves undisturbed."""
    record.rounds += 1
    record.faults += differences(expected, stage.outcome(environment))
    record.faults += [f"{path} is left" for pattern in HALF_WRITTEN for path in work.rglob(pattern)]


def differences(expected: Outcome, found: Outcome) -> list[str]:
    """Return what two outcomes do not share."""
    names = sorted(expected.keys() | found.keys())
    return [f"{name} differs" for name in names if expected.get(name) != found.get(name)]


def start(stage: Stage, environment: Environment) -> subprocess.Popen[bytes]:
    """Start a stage in a process group of its own."""
    name, *words = stage.words(environment)
    log = Path(environment["nnUNet_results"]).parent / "said.txt"
    with log.open("wb") as file:
        return subprocess.Popen(
            [command(name), *words],
            env=dict(environment), stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def end_undisturbed(stage: Stage, environment: Environment) -> None:
    """Run a stage to its end."""
    process = start(stage, environment)
    process.wait()
    faults = ended_badly(process, stage)
    if faults:
        said = Path(environment["nnUNet_results"]).parent / "said.txt"
        sys.exit(f"{faults[0]}\n{said.read_text(errors='replace')}")


def ended_badly(process: subprocess.Popen[bytes], stage: Stage) -> list[str]:
    """Return that a run failed by itself, if it did."""
    return [f"{stage.name} ended with {process.returncode}"] if process.returncode else []


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, at once and without a word, as the loss of a machine does."""
    for pid in with_children(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def restore(template: Path, work: Path) -> None:
    """Put everything back to what it was."""
    shutil.rmtree(work)
    shutil.copytree(template, work)


def state_of(work: Path) -> set[tuple[str, int]]:
    """Return which files there are, of which size, but for what was printed."""
    files = [path for path in work.rglob("*") if path.is_file() and path.name != "said.txt"]
    return {(str(path), path.stat().st_size) for path in files}


# ------------------------------------------------------------------------------------------------- the stages


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
    return {"files": files_in(folder), "weights": weights_in(folder), **json_in(folder / "pretraining_summary.json")}


def fine_tune_words(environment: Environment) -> list[str]:
    """Fine-tune from it; as nnU-Net has it, going on is asked for by --c once there is a checkpoint."""
    words = [NUMBER, CONFIGURATION, "0", "-p", "VolFFine", "-tr", FINE_TUNER, "-device", "cpu"]
    begun = (fine_tuning_folder(environment) / LATEST).is_file() or (fine_tuning_folder(environment) / FINAL).is_file()
    weights = ["-pretrained_weights", str(pretraining_folder(environment) / FINAL)]
    return ["nnUNetv2_train", *words, *(["--c"] if begun else weights)]


def fine_tuning_folder(environment: Environment) -> Path:
    """Return where the fine-tuning is."""
    return fold_folder(environment, "Dataset901_Phantom", FINE_TUNER, "VolFFine", "0")


def fine_tuned(environment: Environment) -> Outcome:
    """Return weights, and the scores of the final validation."""
    folder = fine_tuning_folder(environment)
    scores = json.loads((folder / "validation" / "summary.json").read_text(encoding="utf-8"))
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


def json_in(path: Path) -> Outcome:
    """Return what a file of JSON holds."""
    content: Outcome = json.loads(path.read_text(encoding="utf-8"))
    return content


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


def table(records: list[Record]) -> list[str]:
    """Return the rows of a markdown table."""
    rows = ["| stage | kills | of those after something was written | compared | lost, different or half-written |"]
    rows.append("|---|---|---|---|---|")
    for one in records:
        faults = "; ".join(sorted(set(one.faults))) or "nothing"
        rows.append(f"| {one.stage} | {one.kills} | {one.started_work} | {one.rounds} | {faults} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())
