"""Cases that a training found damaged: whether they are done is asked of their voxels, and not of their notes alone."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_volf.damaged_cases import TABLE, read_table


def suspects(dataset: str, folder: Path) -> set[str]:
    """Return the cases of a preprocessed folder that trainings of this user have noted.

    By the folder's name and not by its path, which may differ on the machine that trained.
    """
    root = os.environ.get("nnUNet_results")
    tables = Path(root).glob(f"{dataset}/*/fold_*/{TABLE}") if root else ()
    noted = (damage for table in tables for damage in read_table(table))
    return {damage.case for damage in noted if folder.name in (Path(damage.file).name, Path(damage.file).parent.name)}


def is_damaged(folder: Path, case: str) -> bool:
    """Return whether something in a case's file cannot be read; reads all of it."""
    from nnunet_volf.cases import is_sound  # loads torch, which a survey without suspects does without

    return not is_sound(folder, case)
