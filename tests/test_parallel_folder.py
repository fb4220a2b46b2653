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
sys.path = [folder for folder in sys.path if folder]  # as for an installed command
from nnunet_volf.preprocessing.parallel import run_parallel
from nnunet_volf.preprocessing.protected import content_of
(done,) = run_parallel(content_of, ["no such file"], workers=1, preload=("nnunet_volf.preprocessing.protected",))
print("failure:", done.failure, os.getcwd())
"""


@pytest.fixture
def part_of_a_checkout(tmp_path: Path) -> Path:
    """A folder with a package of our name in it, which lacks most of what ours has."""
    (tmp_path / "nnunet_volf").mkdir()
    (tmp_path / "nnunet_volf" / "__init__.py").touch()
    return tmp_path


def test_workers_do_not_take_a_folder_of_the_same_name_for_the_package(part_of_a_checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK], cwd=part_of_a_checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"failure: None {os.path.realpath(part_of_a_checkout)}\n"


def test_a_training_does_not_either(part_of_a_checkout: Path) -> None:
    entry = _ENTRY.replace("run_training_entry()", "import nnunet_volf.trainers as found; print(found.__file__)")
    done = subprocess.run(
        [sys.executable, "-c", entry], cwd=part_of_a_checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(part_of_a_checkout) not in done.stdout
