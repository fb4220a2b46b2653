"""Commands of this environment, started as a user would type them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_volf.console import arguments_of, run_command
from nnunet_volf.errors import VolFError


def test_a_command_of_ours_runs_with_its_arguments_and_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        arguments_of(["nnunet-volf", "--version"]), capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nnunet-volf ")


def test_the_exit_code_of_a_command_is_returned() -> None:
    assert run_command(["nnunet-volf", "--version"], os.environ) == 0
    assert run_command(["nnunet-volf", "settings", "no-such-dataset"], os.environ) == 2


def test_a_command_of_nnunet_is_found_beside_this_python() -> None:
    python, dash, code, *typed = arguments_of(["nnUNetv2_train", "901", "3d_fullres"])
    assert (python, dash, typed) == (sys.executable, "-c", ["nnUNetv2_train", "901", "3d_fullres"])
    assert "from nnunetv2.run.run_training import run_training_entry" in code


def test_a_module_in_the_working_folder_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "nnunet_volf.py").write_text("raise SystemExit('the decoy was imported')", encoding="utf-8")
    done = subprocess.run(
        arguments_of(["nnunet-volf", "--version"]), capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_a_command_that_is_not_installed_is_named_with_the_python_that_lacks_it() -> None:
    with pytest.raises(VolFError, match=r"nnUNetv9_train is not installed beside .*doctor"):
        arguments_of(["nnUNetv9_train"])
