"""``nnunet-volf doctor``: look at the machine and the environment before a training does."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnunet_volf import diagnosis, discovery, machine
from nnunet_volf.diagnosis import Finding
from nnunet_volf.errors import VolFError

NAME = "doctor"
HELP = "Check versions, folders, trainers and this machine, and say what to do; exit 1 if a training would stop"

_PACKAGES = ("nnunet-volf", "nnunetv2", "torch", "batchgeneratorsv2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command: none."""


def run(args: argparse.Namespace) -> int:
    """Print every finding, then the command to run next."""
    installed = {package: _version(package) for package in _PACKAGES}
    findings = [Finding("ok", "python", platform.python_version()), *diagnosis.check_versions(installed)]
    findings += diagnosis.check_folders(os.environ)
    device, gpus = "cpu", 0
    if installed["torch"] is not None:
        # The route is read from the environment as the user set it: importing torch may change it.
        route = discovery.discovery_route(os.environ, installed["torch"], discovery.trainers_folder())
        device, gpus, finding = _device()
        findings += [*_trainers(route), finding]
    findings += _machine(gpus)

    for finding in findings:
        print(f"{finding.level:8} {finding.topic:20} {finding.found}")
        if finding.advice and finding.level != "ok":
            print(f"{'':8} {'':20} -> {finding.advice}")
    print(f"\nnext: {diagnosis.next_command(findings, _datasets(), device)}")
    return int(any(finding.level == "error" for finding in findings))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _trainers(route: discovery.Route) -> list[Finding]:
    folder = discovery.trainers_folder()
    findings = []
    for name in discovery.trainer_names(folder):
        found_in, problem = None, ""
        try:
            found_in = discovery.source_file(discovery.resolve_trainer(name))
        except VolFError as error:
            problem = str(error)
        findings.append(diagnosis.check_trainer(name, found_in, folder, route, problem))
    return findings


def _device() -> tuple[str, int, Finding]:
    """Return what nnU-Net calls the device to train on, the number of CUDA GPUs, and the finding about it."""
    import torch

    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(f"{properties.name} ({properties.total_memory / diagnosis.GIB:.0f} GiB)")
    mps = torch.backends.mps.is_available()
    driver = Path("/proc/driver/nvidia/version").exists()
    finding = diagnosis.check_device(gpus, mps, torch.version.cuda is not None, driver)
    return "cuda" if gpus else "mps" if mps else "cpu", len(gpus), finding


def _machine(gpus: int) -> list[Finding]:
    cpus, installed = machine.usable_cpus(), os.cpu_count() or 1
    memory = machine.usable_memory()
    size = "unknown" if memory is None else f"{memory.value / diagnosis.GIB:.0f} GiB, by {memory.source}"
    halves = "has instructions for bfloat16" if machine.computes_bfloat16() else "computes in float32"
    return [
        *([] if gpus else [Finding("ok", "CPU", halves)]),
        *diagnosis.check_workers(cpus, gpus, installed, os.environ.get("nnUNet_n_proc_DA")),
        Finding("ok", "memory", size),
        diagnosis.check_shared_memory(machine.free_shared_memory()),
        diagnosis.check_open_files(machine.open_file_limits()),
    ]


def _datasets() -> list[str]:
    """Return the datasets that are preprocessed, by their folder names."""
    folder = os.environ.get("nnUNet_preprocessed")
    return sorted(plans.parent.name for plans in Path(folder).glob("Dataset*/nnUNetPlans.json")) if folder else []
