"""Datasets, networks and settings so small that all of nnU-Net runs in seconds; for scripts that run it many times."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from nnunet_volf.phantoms import make_phantom, write_phantom_dataset

LABELLED, ARCHIVE = "Dataset901_Phantom", "Dataset501_Archive"
NUMBER, ARCHIVE_NUMBER = "901", "501"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
CONFIGURATION = "3d_fullres"
PRETRAINER, FINE_TUNER = "nnUNetTrainerVolF", "nnUNetTrainerVolFFineTune"
PLANS = "VolFPlans"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def small_environment(base: Path, loader_processes: int) -> dict[str, str]:
    """Return an environment with nnU-Net's folders, which are made, below one of ours."""
    for name in FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        **{name: str(base / name) for name in FOLDERS},
        **dict.fromkeys(_THREADS, "1"),
        "nnUNet_compile": "0",
        "nnUNet_def_n_proc": "1",
        "nnUNet_n_proc_DA": str(loader_processes),
        "MPLBACKEND": "Agg",
    }


def command(name: str) -> str:
    """Return the program of a command that is installed beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is not installed beside {sys.executable}.")
    return found


def run(environment: Mapping[str, str], name: str, *arguments: str) -> None:
    """Run a command to its end, quietly; end with what it said where it fails."""
    done = subprocess.run(
        [command(name), *arguments], env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{name} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def write_labelled(
    environment: Mapping[str, str], cases: int, shape: Sequence[int], patch: Sequence[int], features: Sequence[int]
) -> None:
    """Write a labelled dataset, plan it with nnU-Net, make its network small, and preprocess it."""
    write_phantom_dataset(Path(environment["nnUNet_raw"]), LABELLED, cases, shape)
    run(environment, "nnUNetv2_extract_fingerprint", "-d", NUMBER, "-np", "1")
    run({**environment, "nnUNet_n_proc_DA": "1"}, "nnUNetv2_plan_experiment", "-d", NUMBER)  # refuses 0 threads
    folder = Path(environment["nnUNet_preprocessed"]) / LABELLED
    plans = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    shrink(plans["configurations"][CONFIGURATION], patch, features)
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    run(environment, "nnUNetv2_preprocess", "-d", NUMBER, "-c", CONFIGURATION, "-np", "1")


def shrink(configuration: dict[str, Any], patch: Sequence[int], features: Sequence[int]) -> None:
    """Give a configuration a small patch and a network of a stage for each number of features."""
    stages = len(features)
    configuration.update(batch_size=2, patch_size=list(patch))
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=stages,
        features_per_stage=list(features),
        strides=[[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        kernel_sizes=[[3, 3, 3]] * stages,
        n_conv_per_stage=[1] * stages,
        n_conv_per_stage_decoder=[1] * (stages - 1),
    )


def write_scans(folder: Path, cases: int, shape: Sequence[int]) -> None:
    """Write scans without labels, of sizes that vary by a voxel or two."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in range(cases):
        rng = np.random.default_rng(100 + case)
        images, _ = make_phantom(rng, [int(n + rng.integers(-2, 3)) for n in shape])
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(images[0]), str(folder / f"scan_{case:03d}.nii.gz"))


def fold_folder(environment: Mapping[str, str], dataset: str, trainer: str, plans: str, fold: str) -> Path:
    """Return where nnU-Net keeps a training."""
    return Path(environment["nnUNet_results"]) / dataset / f"{trainer}__{plans}__{CONFIGURATION}" / f"fold_{fold}"


def bytes_in(folder: Path, pattern: str = "*") -> int:
    """Return the size of all files in a folder and its folders that match."""
    size = 0
    for path in folder.rglob(pattern):
        with contextlib.suppress(FileNotFoundError):  # a file that was being replaced
            size += path.stat().st_size if path.is_file() else 0
    return size
