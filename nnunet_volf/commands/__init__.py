"""The commands of ``nnunet-volf``, one small module each.

A command module has ``NAME``, ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which returns the exit
code. All of them are imported to print the help, so they import torch and nnU-Net only inside ``run``. A package of
commands (``weights``) has no ``run``: it declares its own commands in ``add_arguments``.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

COMMANDS = (
    "pretrain",
    "train",
    "import_archive",
    "plan",
    "preprocess",
    "weights",
    "settings",
    "benchmark",
    "preview",
    "trainers",
    "doctor",
    "demo",
)


def declare(parser: argparse.ArgumentParser, package: str, names: Sequence[str], title: str, metavar: str) -> None:
    """Add the commands of a package to a parser; each sets ``run`` to the function that carries it out."""
    subparsers = parser.add_subparsers(title=title, metavar=metavar, required=True)
    for name in names:
        command = importlib.import_module(f"{package}.{name}")
        subparser = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        if hasattr(command, "run"):
            subparser.set_defaults(run=command.run)
