"""How import and plan scale with the number of scans: scans a second, and the memory of the largest process.

Makes that many small NIfTI files, imports them, imports them again, and plans them, each as a process of its own. Small
files show what each scan costs beside its voxels; `--side 256` shows what voxels cost.

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

import numpy as np
import SimpleITK

STAGES = {
    "import": ["import", "{archive}", "-d", "501", "-n", "Archive", "-np", "{workers}"],
    "import again": ["import", "{archive}", "-d", "501", "-n", "Archive", "-np", "{workers}"],
    "plan": ["plan", "-d", "501", "-np", "{workers}"],
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--side", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    print(f"{args.side}^3 voxels, int16, .nii.gz; {args.workers} workers\n")
    print("| scans | stage | seconds | scans / s | peak memory of the largest process (MB) |")
    print("|---|---|---|---|---|")
    for scans in args.scans:
        with tempfile.TemporaryDirectory() as folder:
            write_scans(Path(folder) / "archive", scans, args.side)
            for stage, command in STAGES.items():
                places = {"archive": str(Path(folder) / "archive"), "workers": str(args.workers)}
                seconds, memory = timed([part.format(**places) for part in command], Path(folder))
                print(f"| {scans:,} | {stage} | {seconds:.1f} | {scans / seconds:.0f} | {memory:.0f} |", flush=True)


def write_scans(folder: Path, scans: int, side: int) -> None:
    """Write noise, a hundred files a folder."""
    rng = np.random.default_rng(0)
    for number in range(scans):
        path = folder / f"{number // 100:04d}" / f"scan_{number:06d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = rng.integers(0, 1000, (side,) * 3, dtype=np.int16)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path), useCompression=True, compressionLevel=1)


def timed(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run a command of ours in a process that measures it, and return seconds and megabytes."""
    environment = os.environ.copy()
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(exist_ok=True)
        environment[f"nnUNet_{name}"] = str(folder / name)
    before = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - before, float(done.stdout.rsplit("\n", 2)[-2]) / 1024


# Prints the peak memory of the command's own process or of its largest worker, in kilobytes.
MEASURED = """
import resource, sys
from nnunet_volf.cli import main
code = main(sys.argv[1:])
print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
sys.exit(code)
"""

if __name__ == "__main__":
    main()
