"""What a Dask cluster costs beside the pool of one machine: the same cases, the same number of workers, here.

The commands are run as a user runs them, in turns, and each case is compared with what the pool has written.

    python benchmarks/on_cluster.py [--cases 64] [--size 128] [--workers 2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from timing import conditions, print_table, side_by_side

from nnunet_volf.cluster.connecting import connected
from preprocessing import NAME, SPACINGS, write_dataset, write_plans


def main() -> None:
    """Time the pool, a cluster that is there, and one that is started for the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    print(f"{args.cases} volumes of about {args.size}^3, {args.workers} workers, {args.rounds} rounds; {conditions()}")
    title, spacing = next(iter(SPACINGS.items()))
    with tempfile.TemporaryDirectory() as place, connected("local", args.workers) as cluster:
        for part in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{part}"] = str(Path(place) / part)
        folder = Path(place) / "preprocessed" / NAME
        write_plans(folder, write_dataset(Path(place) / "raw", args.cases, args.size), spacing)
        workers = ["-np", str(args.workers)]
        candidates: Mapping[str, Callable[[], Any]] = {
            "local": partial(run, workers, folder),
            "--dask ADDRESS": partial(run, ["--dask", cluster.client.scheduler.address], folder),
            "--dask local": partial(run, [*workers, "--dask", "local"], folder),
        }
        rows = side_by_side(candidates, "local", args.rounds)
        print_table(f"{title}, a case", [replace(row, seconds=row.seconds / args.cases) for row in rows], "local")


def run(options: list[str], folder: Path) -> None:
    """Preprocess into an empty folder, and compare with what the first run has left."""
    command = [sys.executable, "-c", "from nnunet_volf.cli import main; raise SystemExit(main())", "preprocess"]
    command += ["-d", "901", "-c", "3d_fullres", "-p", "Phantom", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    cases, first = folder / "Phantom_3d", folder / "first"
    if first.exists():
        if any(file.read_bytes() != (first / file.name).read_bytes() for file in cases.glob("*.b2nd")):
            raise SystemExit(f"{options} wrote other files than the first run.")
        shutil.rmtree(cases)
    else:
        cases.rename(first)


if __name__ == "__main__":
    main()
