"""Let nnU-Net find our trainers without a step by the user.

torch calls every entry point of the group ``torch.backends`` when it is imported, and nnU-Net always imports
torch. Ours appends the folder of our trainers to ``nnUNet_extTrainer``, where nnU-Net looks for a trainer
that it does not know itself. Whatever the user has set there stays, and is still searched first.

A failure in here would stop ``import torch`` for everybody in the environment. So this file imports nothing
heavy, does nothing but this, and swallows every exception; ``nnunet-volf doctor`` tells what became of it.
"""

import contextlib
import importlib.util
import os

VARIABLE = "nnUNet_extTrainer"
OPT_OUT = "NNUNET_VOLF_AUTOLOAD"


def register() -> None:
    """Append our trainers folder to ``nnUNet_extTrainer``, unless ``NNUNET_VOLF_AUTOLOAD=0`` says not to."""
    with contextlib.suppress(Exception):
        if os.environ.get(OPT_OUT) == "0":
            return
        # Asked of the import system, because an editable install keeps the folder elsewhere.
        spec = importlib.util.find_spec("nnunet_volf.trainers")
        if spec is None or not spec.submodule_search_locations:
            return
        ours = spec.submodule_search_locations[0]
        folders = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
        if ours not in folders:
            os.environ[VARIABLE] = os.pathsep.join([*folders, ours])
