"""What ``nnunet-volf doctor`` thinks of the facts it gathered: each check is a pure function to findings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnunet_volf.datasets import dataset_number
from nnunet_volf.discovery import Route
from nnunet_volf.machine import MOST_WORKERS, Limit, suggested_workers

MIB = 1 << 20
GIB = 1 << 30
EXPORT_LINE = 'export nnUNet_extTrainer="$(nnunet-volf trainers)"'


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; an error would stop a training, and the advice is a command if possible."""

    level: Literal["ok", "note", "warning", "error"]
    topic: str
    found: str
    advice: str = ""


def check_versions(installed: Mapping[str, str | None]) -> list[Finding]:
    """Judge the versions of the packages that decide whether a training works; None is not installed."""
    findings = []
    for package, version in installed.items():
        if version is None:
            finding = Finding("error", package, "not installed", f"pip install {package}")
        elif package == "torch" and _release(version) == (2, 9):
            advice = 'pip install "torch!=2.9.*"'
            finding = Finding("warning", package, f"{version}: 3D convolutions in autocast are slow", advice)
        elif package == "nnunetv2" and _release(version) < (2, 8):
            advice = 'pip install "nnunetv2>=2.8,<3"'
            finding = Finding("error", package, f"{version} finds no trainers outside its folder", advice)
        else:
            finding = Finding("ok", package, version)
        findings.append(finding)
    return findings


def check_folders(environ: Mapping[str, str]) -> list[Finding]:
    """Judge the three folders that nnU-Net reads from the environment."""
    return [_check_folder(name, environ) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")]


def check_trainer(name: str, found_in: Path | None, ours: Path, route: Route, problem: str = "") -> Finding:
    """Judge where nnU-Net's lookup found one of our trainers, if it did, or what it said instead."""
    if problem and route.name == "not at work":
        return Finding("error", name, f"nnU-Net does not find it: {route.reason}", EXPORT_LINE)
    if problem:
        return Finding("error", name, problem, "Correct what the message names; the trainers are in " + str(ours))
    if found_in is not None and found_in.resolve().parent != ours.resolve():
        advice = "Remove or rename that file: it is found first, and ours is not used."
        return Finding("warning", name, f"found in {found_in}, which is not ours", advice)
    return Finding("ok", name, f"found by {route.name}: {route.reason}")


def check_device(gpus: list[str], mps: bool, cuda_build: bool, driver: bool) -> Finding:
    """Judge what a training would run on: the names of CUDA devices, or Apple's GPU, or the CPU."""
    if gpus:
        return Finding("ok", "device", ", ".join(gpus))
    if driver and not cuda_build:
        advice = "Install a CUDA build of torch: https://pytorch.org/get-started/locally"
        return Finding("warning", "device", "an NVIDIA driver, but torch is built without CUDA", advice)
    if mps:
        return Finding("note", "device", "Apple GPU (mps)", "add -device mps to nnUNetv2_train")
    advice = "add -device cpu to nnUNetv2_train; it is slow, and good for trying things out"
    return Finding("warning", "device", "no GPU", advice)


def check_shared_memory(free: int | None) -> Finding:
    """Judge the room in /dev/shm, where loader workers hand over batches; containers often have 64 MiB."""
    if free is None:
        return Finding("ok", "shared memory", "not limited by a /dev/shm")
    found = f"{free / GIB:.1f} GiB free in /dev/shm"
    advice = "Start the container with --ipc=host or --shm-size=8g, or: export nnUNet_n_proc_DA=0"
    if free < 256 * MIB:
        return Finding("error", "shared memory", f"{found}; loader workers will be killed", advice)
    if free < 2 * GIB:
        return Finding("warning", "shared memory", f"{found}; large patches may not fit", advice)
    return Finding("ok", "shared memory", found)


def check_open_files(limits: tuple[int, int] | None) -> Finding:
    """Judge how many files may be open: every batch on its way from a loader worker holds some."""
    if limits is None:
        return Finding("ok", "open files", "not limited")
    soft, hard = limits
    if soft >= min(4096, hard):
        return Finding("ok", "open files", str(soft))
    return Finding("warning" if soft < 1024 else "note", "open files", str(soft), f"ulimit -n {min(4096, hard)}")


def check_workers(cpus: Limit, gpus: int, installed_cpus: int, chosen: str | None) -> list[Finding]:
    """Judge the number of loader workers that nnU-Net will start per GPU against the CPUs it may use."""
    findings = [Finding("ok", "CPUs", f"{cpus.value} usable of {installed_cpus}, by {cpus.source}")]
    best = suggested_workers(cpus.value, gpus)
    advice = f"export nnUNet_n_proc_DA={best}"
    topic = "nnUNet_n_proc_DA"
    if chosen is not None and not re.fullmatch(r"\s*\+?\d+\s*", chosen):
        return [*findings, Finding("error", topic, f"{chosen!r} is not a number", advice)]
    # nnU-Net does not know about containers and schedulers, only about installed CPUs.
    workers = min(MOST_WORKERS if chosen is None else int(chosen), installed_cpus)
    found = f"{workers} workers per GPU" + (" (nnU-Net's default)" if chosen is None else "")
    if workers * max(1, gpus) > cpus.value:
        found = f"{found}, {cpus.value} usable CPUs"
        if chosen is None:
            findings.append(Finding("note", topic, f"{found}; trainers of nnunet-volf take {best}", advice))
        else:
            findings.append(Finding("warning", topic, found, advice))
    elif workers < best:
        findings.append(Finding("note", topic, f"{found}; {best} would fit", advice))
    else:
        findings.append(Finding("ok", topic, found))
    return findings


def next_command(findings: list[Finding], datasets: list[str], device: str) -> str:
    """Return what to do next: mend the first error, plan the task, or pretrain for it."""
    for finding in findings:
        if finding.level == "error":
            return finding.advice
    if not datasets:
        return "nnUNetv2_plan_and_preprocess -d DATASET -c 3d_fullres"
    option = "" if device == "cuda" else f" -device {device}"
    return f"nnunet-volf pretrain FOLDER_OF_SCANS --for {dataset_number(datasets[0])}{option}"


def _check_folder(name: str, environ: Mapping[str, str]) -> Finding:
    value = environ.get(name)
    if not value:
        return Finding("error", name, "not set", f"export {name}=/path/to/{name}")
    folder = Path(value)
    if not folder.exists():
        return Finding("warning", name, f"{folder} does not exist", f"mkdir -p '{folder}'")
    if not folder.is_dir():
        return Finding("error", name, f"{folder} is not a folder", f"export {name}=/path/to/{name}")
    if not os.access(folder, os.W_OK):
        # A training only reads from nnUNet_raw; it writes splits and results into the other two.
        level: Literal["warning", "error"] = "warning" if name == "nnUNet_raw" else "error"
        return Finding(level, name, f"{folder} is not writable", f"chmod u+w '{folder}'")
    return Finding("ok", name, str(folder))


def _release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
