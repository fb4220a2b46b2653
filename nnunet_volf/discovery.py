"""Where our trainers are, and by which route nnU-Net finds them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Literal

from nnunet_volf._autoload import OPT_OUT, VARIABLE
from nnunet_volf.errors import VolFError

TORCH_SWITCH = "TORCH_DEVICE_BACKEND_AUTOLOAD"
FIRST_TORCH = (2, 5)  # the first torch that calls entry points when it is imported


@dataclass(frozen=True)
class Route:
    """How nnU-Net comes to our folder; the reason says why it is this one."""

    name: Literal["entry point", "exported variable", "not at work"]
    reason: str


def trainers_folder() -> Path:
    """Return the folder of our trainers: in site-packages, or in the checkout of an editable install."""
    spec = importlib.util.find_spec("nnunet_volf.trainers")
    if spec is None or not spec.submodule_search_locations:
        message = (
            f"The trainers are not installed beside nnunet_volf, loaded from {Path(__file__).parent}. "
            "If Python was started inside a checkout, the folder there hides the installed package: "
            "start it elsewhere, or run 'pip install -e .' in the checkout."
        )
        raise VolFError(message)
    return Path(spec.submodule_search_locations[0])


def trainer_names(folder: Path) -> tuple[str, ...]:
    """Return the trainers in a folder that holds one a file, the file named after the class."""
    return tuple(sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")))


def discovery_route(environ: Mapping[str, str], torch_version: str, folder: Path) -> Route:
    """Tell by which route nnU-Net, started in this environment, comes to look into our folder.

    Where both are in place this says "entry point": the exported variable is then not needed.
    """
    obstacle = _autoload_obstacle(environ, torch_version)
    if obstacle is None:
        return Route("entry point", "torch adds the folder to nnUNet_extTrainer when it is imported")
    exported = [Path(entry).resolve() for entry in environ.get(VARIABLE, "").split(os.pathsep) if entry]
    if folder.resolve() in exported:
        return Route("exported variable", f"it names the folder; the entry point is off: {obstacle}")
    return Route("not at work", obstacle)


def resolve_trainer(name: str) -> type:
    """Return the class that nnU-Net's own lookup gives for a name, without its progress messages."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found: type = recursive_find_trainer_class_by_name(name)
    except Exception as error:  # the lookup executes every trainer file on its way, also other people's
        message = f"nnU-Net does not find the trainer {name}. It says: {error}"
        raise VolFError(message) from error
    return found


def source_file(trainer: type) -> Path | None:
    """Return the file that defines a trainer.

    ``inspect`` cannot tell: nnU-Net has removed the module of an external trainer by the time it returns it. Its
    methods know. A trainer without any is in the first of the folders that nnU-Net searches which has such a module.
    """
    for member in vars(trainer).values():
        if isinstance(member, FunctionType):
            return Path(member.__code__.co_filename)
    folders = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    module = Path(*trainer.__module__.split(".")).with_suffix(".py")
    return next((file for file in (Path(folder, module) for folder in folders) if file.is_file()), None)


def _autoload_obstacle(environ: Mapping[str, str], torch_version: str) -> str | None:
    """Return what keeps torch from calling our entry point, if anything does."""
    if environ.get(OPT_OUT) == "0":
        return f"{OPT_OUT}=0 switches it off"
    if environ.get(TORCH_SWITCH, "1") != "1":
        return f"{TORCH_SWITCH}={environ[TORCH_SWITCH]} keeps torch from calling entry points"
    release = tuple(int(number) for number in re.findall(r"\d+", torch_version)[:2])
    if release < FIRST_TORCH:
        return f"torch {torch_version} does not call entry points; torch 2.5 and later do"
    return None
