"""How each stage scales with the number of scans: scans a second, and the memory of the largest process.

Makes that many small NIfTI files, imports, plans and preprocesses them, and does that again when there is nothing to
do: each as a process of its own. Small files show what each scan costs beside its voxels; `--side 256`
shows what voxels cost.

    python benchmarks/archive.py [--scans 1000 10000] [--side 24] [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK

STAGES = {
    "import": ["import", "{archive}", "-d", "501", "-n", "Archive", "-np", "{workers}"],
    "import again": ["import", "{archive}", "-d", "501", "-n", "Archive", "-np", "{workers}"],
    "plan": ["plan", "-d", "501", "-np", "{workers}"],
    "preprocess": ["preprocess", "-d", "501", "-np", "{workers}"],
    "preprocess again": ["preprocess", "-d", "501", "-np", "{workers}"],
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--side", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    print(f"{args.side}^3 voxels, int16, .nii.gz; {args.workers} workers\n")
    print("| scans | stage | seconds | CPU seconds | scans / s | peak memory of the largest process (MB) |")
    print("|---|---|---|---|---|---|")
    for scans in args.scans:
        with tempfile.TemporaryDirectory() as folder:
            write_scans(Path(folder) / "archive", scans, args.side)
            for stage, command in STAGES.items():
                places = {"archive": str(Path(folder) / "archive"), "workers": str(args.workers)}
                used = measured([part.format(**places) for part in command], Path(folder))
                rate = f"{scans / used.seconds:.0f} | {used.megabytes:.0f}"
                print(f"| {scans:,} | {stage} | {used.seconds:.1f} | {used.cpu_seconds:.1f} | {rate} |", flush=True)


def write_scans(folder: Path, scans: int, side: int) -> None:
    """Write noise, a hundred files a folder."""
    rng = np.random.default_rng(0)
    for number in range(scans):
        path = folder / f"{number // 100:04d}" / f"scan_{number:06d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = rng.integers(0, 1000, (side,) * 3, dtype=np.int16)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path), useCompression=True, compressionLevel=1)


class Used(NamedTuple):
    """What a command took; with no workers (`--workers 0`), the CPU's seconds are those of all its work."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def measured(arguments: list[str], folder: Path) -> Used:
    """Run a command of ours in a process that measures it."""
    environment = os.environ.copy()
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(exist_ok=True)
        environment[f"nnUNet_{name}"] = str(folder / name)
    before = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    seconds = time.perf_counter() - before
    cpu_seconds, kilobytes = done.stdout.rsplit("\n", 2)[-2].split()
    return Used(seconds, float(cpu_seconds), float(kilobytes) / 1024)


# Prints the CPU's seconds, and the peak memory of the command's own process or of its largest worker in kilobytes.
MEASURED = """
import resource, sys
from nnunet_volf.cli import main
code = main(sys.argv[1:])
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(one.ru_utime + one.ru_stime for one in used), max(one.ru_maxrss for one in used))
sys.exit(code)
"""

if __name__ == "__main__":
    main()
