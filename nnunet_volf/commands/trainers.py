"""``nnunet-volf trainers``: print the folder in which nnU-Net finds our trainers."""

import argparse

from nnunet_volf.discovery import trainers_folder

NAME = "trainers"
HELP = 'Print the folder of the trainers, for: export nnUNet_extTrainer="$(nnunet-volf trainers)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command: none."""


def run(args: argparse.Namespace) -> int:
    """Print the folder."""
    print(trainers_folder())
    return 0
