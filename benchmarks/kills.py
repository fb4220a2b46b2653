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
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kill_stages import STAGES, Environment, Outcome, Stage, prepare
from process_tree import with_children
from seeded import seeded
from small_runs import command, small_environment, write_labelled, write_scans

HALF_WRITTEN = ("*.tmp", ".unfinished/*", ".*.nii.gz")


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
    names = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    return [f"{name} differs{_which(expected.get(name), found.get(name))}" for name in names]


def _which(expected: object, found: object) -> str:
    if not isinstance(expected, list) or not isinstance(found, list):
        return ""
    missing, more = (sorted(map(str, set(one) - set(other))) for one, other in ((expected, found), (found, expected)))
    return f" (missing: {', '.join(missing) or 'none'}; more: {', '.join(more) or 'none'})"


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
