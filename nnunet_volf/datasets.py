"""nnU-Net's three folders and the datasets in them, by number or name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nnunet_volf.errors import DataError

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"

# In a raw dataset that `nnunet-volf import` has made: a line of JSON a case.
MANIFEST = "import/manifest.jsonl"

_KEPT = {RAW: "raw data", PREPROCESSED: "preprocessed data", RESULTS: "trained models"}
_NAME = re.compile(r"Dataset(\d{3})_.+")


def nnunet_folder(variable: str) -> Path:
    """Return the folder that one of nnU-Net's variables names; it must exist."""
    root = os.environ.get(variable)
    if not root or not Path(root).is_dir():
        raise DataError(
            f"{variable} is {root or 'not set'}, which is no folder. "
            f"Set it to where nnU-Net keeps {_KEPT[variable]}; 'nnunet-volf doctor' shows all three folders."
        )
    return Path(root)


def dataset_number(name: str) -> int:
    """Return 4 for ``Dataset004_Hippocampus``."""
    return int(name.removeprefix("Dataset").split("_")[0])


def dataset_names(root: Path) -> list[str]:
    """Return the names of the datasets in a folder."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))


def all_dataset_names() -> list[str]:
    """Return the names of all datasets that nnU-Net knows by any of its three folders."""
    roots = [Path(os.environ[variable]) for variable in _KEPT if os.environ.get(variable)]
    return sorted({name for root in roots if root.is_dir() for name in dataset_names(root)})


def find_dataset(dataset: str, variable: str) -> Path:
    """Find a dataset's folder by its number or name, or say which there are."""
    root = nnunet_folder(variable)
    known = dataset_names(root)
    found = [name for name in known if name == dataset or (dataset.isdigit() and dataset_number(name) == int(dataset))]
    if len(found) == 1:
        return root / found[0]
    problem = "is not there" if not found else f"could be any of {', '.join(found)}"
    elsewhere = [name for name in all_dataset_names() if name == dataset or str(dataset_number(name)) == dataset]
    hint = ""
    if not found and variable == PREPROCESSED and elsewhere:
        hint = f" {elsewhere[0]} is not planned yet: {plan_command(elsewhere[0])}."
    raise DataError(f"Dataset {dataset} {problem}. {root} holds: {', '.join(known) or 'nothing'}.{hint}")


def is_imported(name: str) -> bool:
    """Say whether a dataset was made by ``nnunet-volf import``, and so has no labels."""
    root = os.environ.get(RAW)
    return bool(root) and (Path(root or "") / name / MANIFEST).is_file()


def plan_command(name: str) -> str:
    """Return the command that plans a dataset: ours where there are no labels, else nnU-Net's."""
    if is_imported(name):
        return f"nnunet-volf plan -d {dataset_number(name)}"
    return f"nnUNetv2_plan_and_preprocess -d {dataset_number(name)}"


def preprocess_command(name: str, plans_name: str) -> str:
    """Return the command that preprocesses a dataset for its plans."""
    if is_imported(name):
        return f"nnunet-volf preprocess -d {dataset_number(name)} -p {plans_name}"
    return f"nnUNetv2_preprocess -d {dataset_number(name)} -plans_name {plans_name}"
