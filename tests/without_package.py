"""Run Python in an environment that has everything that is installed here but this package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

OURS = ("nnunet_volf", "__editable__.nnunet_volf", "__editable___nnunet_volf")

# What an environment has that knows of us: the package, or an entry point that torch calls when it is imported.
FIND_US = """
import importlib.util, importlib.metadata, os, torch
assert importlib.util.find_spec("nnunet_volf") is None, "the package can be imported"
assert not importlib.metadata.entry_points(group="torch.backends", name="nnunet_volf"), "torch would call us"
assert "nnUNet_extTrainer" not in os.environ, "nnU-Net is told of our trainers"
"""


def farm(folder: Path) -> Path:
    """Fill a folder with links to all installed packages but ours."""
    folder.mkdir()
    for packages in map(Path, sys.path):
        if packages.name not in ("site-packages", "dist-packages") or not packages.is_dir():
            continue
        for entry in packages.iterdir():
            if not entry.name.startswith(OURS) and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


def run_without_package(packages: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code there; -S keeps Python from adding the environment that the tests run in, and -c adds where it runs."""
    environment = {name: value for name, value in os.environ.items() if name != "nnUNet_extTrainer"}
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        capture_output=True, text=True, check=False, cwd=packages, env={**environment, "PYTHONPATH": str(packages)},
    )  # fmt: skip
