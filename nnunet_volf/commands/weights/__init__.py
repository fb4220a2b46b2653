"""``nnunet-volf weights``: look into pretrained weights, fit them to a task, pass them on."""

from __future__ import annotations

import argparse

from nnunet_volf.commands import declare

NAME = "weights"
HELP = "Look into pretrained weights, compare them with a task, adapt, export and import them"

ACTIONS = ("inspect", "check", "adapt", "plan", "export", "import_")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done with weights, each a command of its own."""
    declare(parser, __name__, ACTIONS, title="actions", metavar="ACTION")
