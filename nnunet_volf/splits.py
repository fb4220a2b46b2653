"""Which cases are trained on and which are held out, for any number of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_volf.errors import DataError
from nnunet_volf.files import read_json

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


def labelled_split(folder: Path, identifiers: Sequence[str], fold: int) -> Mapping[str, Sequence[str]]:
    """Return the cases that nnU-Net trains on and validates on in a fold; where there is no split yet, none is written.

    Args:
        folder: the dataset's preprocessed folder, where nnU-Net and its users keep splits_final.json.
        identifiers: all cases that are preprocessed.
        fold: its number.
    """
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    path = folder / "splits_final.json"
    if path.is_file():
        splits = read_json(path)
    elif len(identifiers) < FOLDS:
        raise DataError(
            f"{folder.name} has {len(identifiers)} preprocessed cases, of which nnU-Net makes no {FOLDS} folds. Write "
            f"a split of your own to {path}."
        )
    else:
        splits = generate_crossval_split(sorted(identifiers), seed=12345, n_splits=FOLDS)  # as nnUNetTrainer.do_split
    if fold >= len(splits):
        raise DataError(f"There is no fold {fold}: {path if path.is_file() else 'nnU-Net'} has {len(splits)} folds.")
    split: Mapping[str, Sequence[str]] = splits[fold]
    missing = sorted({*split["train"], *split["val"]} - set(identifiers))
    if missing:
        raise DataError(
            f"{len(missing)} cases of fold {fold} in {path} are not preprocessed, {missing[0]} among them. Preprocess "
            "the dataset again, or take them out of the file."
        )
    return {part: [str(case) for case in split[part]] for part in ("train", "val")}
