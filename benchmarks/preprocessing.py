"""How long preprocessing takes, and how much disk: ours without labels against nnU-Net's with them.

Both are run as commands, in turns, with the same number of workers, on the same images and plan. How far apart the
voxels are that they write is measured, too. Labelled phantoms of integers stand in for scans, once resampled and once
on the plan's own grid.

    python benchmarks/preprocessing.py [--cases 64] [--size 128] [--workers 2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import SimpleITK
from timing import conditions, print_table, side_by_side

from nnunet_volf.phantoms import make_phantom

NAME = "Dataset901_Phantom"
SPLINES = {"order": 3, "order_z": 0, "force_separate_z": None}
SPACINGS = {"resampled from 1.0 x 1.0 x 1.0 to 1.2 x 0.9 x 0.9 mm": [1.2, 0.9, 0.9], "not resampled": [1.0, 1.0, 1.0]}


def main() -> None:
    """Time both, and print a table for each grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    print(f"{args.cases} volumes of about {args.size}^3, {args.workers} workers, {args.rounds} rounds; {conditions()}")
    with tempfile.TemporaryDirectory() as folder:
        for part in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{part}"] = str(Path(folder) / part)
        dataset = write_dataset(Path(folder) / "raw", args.cases, args.size)
        for title, spacing in SPACINGS.items():
            write_plans(Path(folder) / "preprocessed" / NAME, dataset, spacing)
            compare(title, Path(folder) / "preprocessed" / NAME, args)


def compare(title: str, folder: Path, args: argparse.Namespace) -> None:
    """Print times and sizes of one grid."""
    common = ["-d", "901", "-c", "3d_fullres", "-np", str(args.workers)]
    theirs = [str(Path(sys.executable).with_name("nnUNetv2_preprocess")), *common, "-plans_name", "Phantom"]
    ours = [sys.executable, "-c", "from nnunet_volf.cli import main; raise SystemExit(main())", "preprocess"]
    ours += [*common, "-p", "Phantom"]
    sizes: dict[str, int] = {}
    candidates: dict[str, Callable[[], Any]] = {
        "nnUNetv2_preprocess, with labels": partial(run, theirs, folder, sizes, "nnU-Net"),
        "nnunet-volf preprocess, float32": partial(run, ours, folder, sizes, "float32"),
        "nnunet-volf preprocess, float16": partial(run, [*ours, "--dtype", "float16"], folder, sizes, "float16"),
    }
    yardstick, *_ = candidates
    rows = side_by_side(candidates, yardstick, args.rounds)
    rows = [replace(row, seconds=row.seconds / args.cases) for row in rows]
    print_table(f"{title}, a case", rows, "nnU-Net")
    print("\n| | MB a case | x nnU-Net |\n|---|---|---|")
    for name, size in sizes.items():
        print(f"| {name} | {size / args.cases / 1e6:.2f} | {size / sizes['nnU-Net']:.2f} |", flush=True)
    for name in ("float32", "float16"):
        apart = largest_difference(folder / "nnU-Net", folder / name)
        print(f"\nlargest difference of {name} to nnU-Net's voxels, of the range of a case: {apart:.1e}", flush=True)


def run(command: list[str], folder: Path, sizes: dict[str, int], name: str) -> None:
    """Run a command from an empty folder, note how large what it leaves there is, and keep that under a name."""
    shutil.rmtree(folder / name, ignore_errors=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    (folder / "Phantom_3d").rename(folder / name)
    sizes[name] = sum(file.stat().st_size for file in (folder / name).glob("*"))


def largest_difference(first: Path, second: Path) -> float:
    """Return how far apart the voxels of the cases of two folders are at most, as a share of the range of a case."""
    apart = 0.0
    for file in second.glob("*.b2nd"):
        ours, theirs = (blosc2.open(str(folder / file.name))[:] for folder in (second, first))
        apart = max(apart, float(np.abs(ours - theirs).max() / np.ptp(theirs)))
    return apart


def write_dataset(raw: Path, cases: int, size: int) -> dict[str, Any]:
    """Write images of integers with air around the body, and labels, and list them as an import does."""
    folder = raw / NAME
    for part in ("imagesTr", "labelsTr", "import"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    manifest, images = [], {}
    for number in range(cases):
        shape = tuple(int(size + rng.integers(-6, 7)) for _ in range(3))
        image, labels = make_phantom(rng, shape)
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
        voxels = np.where((grid**2).sum(0) < 1, np.round(10 * image[0] - 1000), -1024).astype(np.int16)
        name = f"case_{number:03d}"
        files = {"image": folder / "imagesTr" / f"{name}_0000.nii.gz", "label": folder / "labelsTr" / f"{name}.nii.gz"}
        for kind, array in (("image", voxels), ("label", labels)):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(files[kind]))
        content = hashlib.blake2b(voxels.tobytes(), digest_size=16).hexdigest()
        manifest.append(json.dumps({"case": name, "content": content, "shape": shape, "spacing": [1.0, 1.0, 1.0]}))
        images[name] = {"images": [str(files["image"])], "label": str(files["label"])}
    (folder / "import" / "manifest.jsonl").write_text("\n".join(manifest) + "\n")
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "large": 1, "small": 2},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "dataset": images,
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return dataset


def write_plans(folder: Path, dataset: dict[str, Any], spacing: list[float]) -> None:
    """Write what preprocessing reads of nnU-Net's plans."""
    configuration = {
        "data_identifier": "Phantom_3d",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [96, 96, 96],
        "spacing": spacing,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, **SPLINES},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, **SPLINES, "order": 1},
        "architecture": {},
    }
    statistics = {"mean": 0.0, "std": 60.0, "percentile_00_5": -150.0, "percentile_99_5": 250.0}
    plans = {
        "dataset_name": NAME,
        "plans_name": "Phantom",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
        "configurations": {"3d_fullres": configuration},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Phantom.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))


if __name__ == "__main__":
    main()
