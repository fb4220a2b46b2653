"""Run commands of this very environment, nnU-Net's and ours, as a user would type them; without a shell."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from nnunet_volf.errors import VolFError

# Without the working folder, which Python puts before all others here: it may be a checkout of this package.
_START = "import sys; sys.path = [folder for folder in sys.path if folder]; "


def program(module: str, function: str) -> str:
    """Return what ``python -c`` runs to call a function of an installed module."""
    return f"{_START}from {module} import {function}; {function}()"


def arguments_of(command: Sequence[str]) -> list[str]:
    """Return what starts a command that an installed package declares, wherever its script was put."""
    found = {entry.value for entry in entry_points(group="console_scripts", name=command[0])}
    if not found:
        raise VolFError(f"{command[0]} is not installed beside {sys.executable}; 'nnunet-volf doctor' tells what is.")
    module, _, function = sorted(found)[0].partition(":")
    call = f"{_START}sys.argv = sys.argv[1:]; from {module} import {function}; sys.exit({function}())"
    return [sys.executable, "-c", call, *command]


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end and return its exit code; Ctrl-C reaches it, too, and it is the one to end first."""
    return wait(subprocess.Popen(arguments_of(command), env=dict(environment), stdin=subprocess.DEVNULL))


def wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for a process; Ctrl-C reaches it too, and it is the one to end first."""
    while child.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):
            child.wait()
    return child.returncode
