"""Which cases are trained on and which are held out, for any number of cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDS = 5  # nnU-Net's cross-validation

Split = tuple[list[str], list[str]]


def pretraining_split(trainer: Any, nnunet_split: Callable[[], Split]) -> Split:
    """Return (training, held-out) cases of a trainer's fold: nnU-Net's own split wherever it has one.

    With fewer cases than folds nnU-Net cannot split; then fold f holds out case f and nothing is written. Where nothing
    would be held out, the training cases serve for validation too.
    """
    splits_file = Path(trainer.preprocessed_dataset_folder_base) / "splits_final.json"
    if trainer.fold != "all" and not splits_file.is_file():
        identifiers = sorted(trainer.dataset_class.get_identifiers(trainer.preprocessed_dataset_folder))
        if len(identifiers) < FOLDS:
            return hold_one_out(identifiers, trainer.fold)
    training, held_out = nnunet_split()
    return list(training), list(held_out) or list(training)


def hold_one_out(identifiers: list[str], fold: int) -> Split:
    """Hold out case number `fold`, counted round; a lone case is used for both."""
    if len(identifiers) < 2:
        return identifiers, identifiers
    chosen = identifiers[fold % len(identifiers)]
    return [i for i in identifiers if i != chosen], [chosen]
