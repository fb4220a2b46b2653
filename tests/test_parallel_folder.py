"""Worker processes and trainings load the package that is installed, wherever a command is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_volf.launch import _ENTRY

WORK = """
import os, sys
sys.path = [{installed!r}, *(folder for folder in sys.path if folder)]  # as for an installed command
from package.work import double
from nnunet_volf.preprocessing.parallel import run_parallel
(done,) = run_parallel(double, [21], workers=1, preload=("package.work",))
print(done.result, done.failure, os.getcwd())
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a package in it, as site-packages is one."""
    package = tmp_path / "installed" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "work.py").write_text("def double(number):\n    return 2 * number\n")
    return package.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with packages of the same names in it, which lack what is in the installed ones."""
    for name in ("package", "nnunetv2"):
        (tmp_path / "checkout" / name).mkdir(parents=True)
        (tmp_path / "checkout" / name / "__init__.py").touch()
    return tmp_path / "checkout"


def run(program: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_workers_do_not_take_the_working_folder_for_the_package(installed: Path, checkout: Path) -> None:
    assert run(WORK.format(installed=str(installed)), checkout) == f"42 None {os.path.realpath(checkout)}\n"


def test_a_training_does_not_either(checkout: Path) -> None:
    program = _ENTRY.replace("run_training_entry()", "print(run_training_entry.__module__)")
    assert program != _ENTRY
    assert run(program, checkout) == "nnunetv2.run.run_training\n"
