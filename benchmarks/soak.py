"""A long pretraining, watched: do memory, open files and shared memory stay flat?

Makes a small archive, pretrains on it with stock nnUNetv2_train on the CPU with loader processes, checkpoints every
minute and a picture every few epochs, and looks at the trainer and all its children every few seconds. Ends with a csv
of all samples and a table; exit code 1 says that something grows. Linux only.

    python benchmarks/soak.py [--minutes 60] [--warm-up 10] [--every 10] [--workers 2] [-o soak]
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flatness import Flatness, judge
from process_tree import held_by
from small_runs import (
    ARCHIVE,
    ARCHIVE_NUMBER,
    CONFIGURATION,
    NUMBER,
    PLANS,
    PRETRAINER,
    bytes_in,
    command,
    fold_folder,
    run,
    small_environment,
    write_labelled,
    write_scans,
)

from nnunet_volf.training_files import EXIT_REQUEUE

SETTINGS = ("epochs=100000", "iterations=50", "validation_samples=4", "panel_every=5", "save_every_minutes=1")
MB = 1e6


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A column: its unit, and growth that is none."""

    title: str
    unit: float = 1.0
    floor: float = 0.0
    may_grow: bool = False


QUANTITIES = {
    "memory": Quantity("memory (MB)", MB, 1 * MB),
    "file_pages": Quantity("pages of mapped files (MB)", MB, may_grow=True),  # other programs load some of them, too
    "mappings": Quantity("mappings", floor=5),
    "shared": Quantity("shared memory (MB)", MB, 1 * MB),
    "files": Quantity("open files", floor=0.5),
    "threads": Quantity("threads", floor=0.5),
    "processes": Quantity("processes", floor=0.5),
    "checkpoints": Quantity("checkpoints (MB)", MB, 1 * MB),
    "folder": Quantity("output folder (MB)", MB, may_grow=True),  # a line of log an epoch, and the pictures
}


def main() -> int:
    """Soak, and say what came of it."""
    args = parsed()
    with tempfile.TemporaryDirectory() as place:
        environment = small_environment(Path(place), args.workers)
        folder = prepare(environment, Path(place) / "scans", args.set)
        with start(environment, args.output.with_suffix(".log")) as training:
            try:
                samples = list(watch(training, folder, 60 * args.minutes, args.every))
            finally:
                training.send_signal(signal.SIGTERM)
                code = training.wait(timeout=300)
        epochs = epochs_in(folder)
    write_csv(args.output.with_suffix(".csv"), samples)
    found = judge_all(samples, 60 * args.warm_up)
    print("\n".join(table(found)))
    print(
        f"\n{len(samples)} samples in {samples[-1]['seconds'] / 60:.0f} min, the first {args.warm_up:g} min left out;"
    )
    print(f"{epochs} epochs; ended with code {code}, {EXIT_REQUEUE} expected: asked to stop, all saved")
    return (
        0 if code == EXIT_REQUEUE and all(one.flat or QUANTITIES[name].may_grow for name, one in found.items()) else 1
    )


def parsed() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="[%(default)s]")
    parser.add_argument("--warm-up", type=float, default=10.0, metavar="MINUTES", help="[%(default)s]")
    parser.add_argument("--every", type=float, default=10.0, metavar="SECONDS", help="[%(default)s]")
    parser.add_argument("--workers", type=int, default=2, help="loader processes [%(default)s]")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of Volume Fusion")
    parser.add_argument("-o", dest="output", type=Path, default=Path("soak"), help="files to write [%(default)s]")
    return parser.parse_args()


def prepare(environment: Mapping[str, str], scans: Path, settings: Sequence[str]) -> Path:
    """Make an archive, import, plan and preprocess it, and return where its training will be."""
    write_labelled(environment, 2, (40, 48, 44), (32, 32, 32), (8, 16, 32))
    write_scans(scans, 16, (40, 48, 44))
    run(environment, "nnunet-volf", "import", str(scans), "-d", ARCHIVE_NUMBER, "-n", "Archive", "--for", NUMBER)
    chosen = ["--set", *SETTINGS, *settings]
    run(environment, "nnunet-volf", "plan", "-d", ARCHIVE_NUMBER, "--for", NUMBER, "--as", PLANS, *chosen)
    run(environment, "nnunet-volf", "preprocess", "-d", ARCHIVE_NUMBER, "-p", PLANS, "-np", "1")
    return fold_folder(environment, ARCHIVE, PRETRAINER, PLANS, "0")


def start(environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the training as a user does."""
    words = [ARCHIVE_NUMBER, CONFIGURATION, "0", "-p", PLANS, "-tr", PRETRAINER, "-device", "cpu"]
    with log.open("wb") as file:
        return subprocess.Popen(
            [command("nnUNetv2_train"), *words], env=dict(environment), stdout=file, stderr=subprocess.STDOUT
        )


def watch(training: subprocess.Popen[bytes], folder: Path, seconds: float, every: float) -> Iterator[dict[str, float]]:
    """Yield a sample every few seconds while the training runs, or end where it does."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        if training.poll() is not None:
            sys.exit(f"The training ended by itself with code {training.returncode}; see its log.")
        held = held_by(training.pid)
        files = {"checkpoints": bytes_in(folder, "*.pth"), "folder": bytes_in(folder)}
        yield {"seconds": passed, **dataclasses.asdict(held), **files}
        time.sleep(every)


def judge_all(samples: Sequence[Mapping[str, float]], warm_up: float) -> dict[str, Flatness]:
    """Judge each quantity."""
    seconds = [sample["seconds"] for sample in samples]
    return {
        name: judge(seconds, [sample[name] for sample in samples], warm_up, quantity.floor)
        for name, quantity in QUANTITIES.items()
    }


def table(found: Mapping[str, Flatness]) -> list[str]:
    """Return the rows of a markdown table."""
    rows = ["| | level | highest | growth an hour | |", "|---|---|---|---|---|"]
    for name, one in found.items():
        quantity = QUANTITIES[name]
        level, highest, hourly = (value / quantity.unit for value in (one.level, one.highest, one.hourly))
        verdict = "flat" if one.flat else "grows, as it should" if quantity.may_grow else "GROWS"
        rows.append(f"| {quantity.title} | {level:,.1f} | {highest:,.1f} | {hourly:+,.2f} | {verdict} |")
    return rows


def write_csv(path: Path, samples: Sequence[Mapping[str, Any]]) -> None:
    """Write all samples."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(samples[0]))
        writer.writeheader()
        writer.writerows(samples)


def epochs_in(folder: Path) -> int:
    """Return how many epochs were begun."""
    return sum(log.read_text(errors="ignore").count(": Epoch ") for log in folder.glob("training_log*"))


if __name__ == "__main__":
    sys.exit(main())
