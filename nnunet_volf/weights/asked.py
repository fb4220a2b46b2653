"""Which pretrained weights a user has asked nnU-Net for: it loads them without ever telling the trainer the file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn

# The installed command, and ``python -m nnunetv2.run.run_training``.
_PROGRAMS = ("nnUNetv2_train", "run_training")


@dataclass(frozen=True)
class Asked:
    """What the command line of nnUNetv2_train says about where to start from."""

    weights: Path | None = None
    resume: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave complaints to nnU-Net's own parser."""
        raise ValueError(message)


def asked(argv: Sequence[str]) -> Asked:
    """Read a process's command line as nnU-Net does; those of other programs say nothing.

    Processes that nnU-Net starts for further GPUs have the command line of the first.
    """
    if not argv or _program(argv[0]) not in _PROGRAMS:
        return Asked()
    parser = _Parser(add_help=False)
    for option in ("-tr", "-p", "-pretrained_weights", "-num_gpus", "-device"):
        parser.add_argument(option)
    for switch in ("--npz", "--c", "--val", "--val_best", "--disable_checkpointing"):
        parser.add_argument(switch, action="store_true")
    try:
        found, _ = parser.parse_known_args(list(argv[1:]))
    except ValueError:
        return Asked()
    training = found.pretrained_weights is not None and not found.val  # nnU-Net passes over it with --val
    return Asked(Path(found.pretrained_weights) if training else None, resume=found.c)


def _program(path: str) -> str:
    name = (PureWindowsPath(path) if "\\" in path else PurePosixPath(path)).name
    return name.removesuffix(".exe").removesuffix(".py").removesuffix("-script")
