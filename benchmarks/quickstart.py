"""The whole way on a laptop, in a few minutes: a folder of scans without labels, pretraining, fine-tuning with labels.

Every step is a command that you could type; it is printed before it runs. The scans are made up, the network is made
small so that a CPU will do, and the schedules are far too short to learn much: this shows that everything works, not
that it helps.

    python benchmarks/quickstart.py [--folder quickstart] [--epochs 5] [--iterations 20] [--skip-fine-tuning]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_volf.phantoms import make_phantom, write_phantom_dataset

DATASET = "Dataset901_Phantom"
BIN = Path(sys.executable).parent


def main() -> None:
    """Run every step in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("quickstart"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--skip-fine-tuning", action="store_true")
    args = parser.parse_args()

    folder = args.folder.resolve()
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
        print(f"export nnUNet_{name}={folder / name}")
    os.environ |= {"nnUNet_compile": "0", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}

    write_scans(folder / "archive")
    write_phantom_dataset(folder / "raw", DATASET, cases=6, shape=(32, 32, 32))
    run("nnUNetv2_plan_and_preprocess", "-d", "901", "-c", "3d_fullres", "-np", "1", quiet=True)
    make_network_small(folder / "preprocessed" / DATASET / "nnUNetPlans.json")

    settings = [f"epochs={args.epochs}", f"iterations={args.iterations}", "optimizer=adamw", "panel_every=0"]
    run("nnunet-volf", "pretrain", str(folder / "archive"), "--for", "901", "-device", "cpu", "--set", *settings)
    trained = folder / "results" / "Dataset501_Archive" / "nnUNetTrainerVolF__VolFPlans__3d_fullres" / "fold_all"
    weights = trained / "checkpoint_final.pth"
    run("nnunet-volf", "preview", "501", "-p", "VolFPlans", "-o", str(folder / "preview.png"))
    if not args.skip_fine_tuning:
        fine_tune = "nnUNetv2_train 901 3d_fullres 0 -tr nnUNetTrainer_1epoch -device cpu -pretrained_weights"
        run(*fine_tune.split(), str(weights))
    print(f"\nreport on the archive: {folder / 'raw' / 'Dataset501_Archive' / 'import_report.html'}")
    print(f"pretrained weights: {weights}")
    print(f"pictures: {folder / 'preview.png'}, {weights.parent / 'pretraining_panel.png'}")


def write_scans(folder: Path) -> None:
    """Write a dozen scans in three formats, and a file that is none."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for number in range(12):
        images, _ = make_phantom(rng, [int(side) for side in rng.integers(30, 36, size=3)])
        ending = (".nii.gz", ".nrrd", ".mha")[number % 3]
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(images[0]), str(folder / f"scan_{number:02d}{ending}"))
    (folder / "broken.nii.gz").write_bytes(b"this was a scan once")


def make_network_small(plans_file: Path) -> None:
    """Divide the widths of the network by eight."""
    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["features_per_stage"] = [width // 8 for width in network["features_per_stage"]]
    plans_file.write_text(json.dumps(plans, indent=4), encoding="utf-8")


def run(command: str, *arguments: str, quiet: bool = False) -> None:
    """Print a command and run it from this environment."""
    print(f"\n$ {' '.join([command, *arguments])}", flush=True)
    program = shutil.which(command, path=str(BIN)) or command
    done = subprocess.run([program, *arguments], check=False, capture_output=quiet, text=True)
    if done.returncode != 0:
        sys.exit(f"{command} failed with exit code {done.returncode}\n{done.stderr or ''}")


if __name__ == "__main__":
    main()
