"""A fine-tuned model as nnU-Net itself would have left it, for prediction without our trainers.

With a network of nnU-Net's it predicts where this package is not installed. One of ours has to be built, so there the
package is needed, and nothing else of it but the class.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.checkpoints import write_checkpoint
from nnunet_volf.durable import STATE_KEY
from nnunet_volf.errors import WeightsError
from nnunet_volf.files import write_json
from nnunet_volf.pretext.catalogue import METHODS, method_labelled
from nnunet_volf.pretext.volf.labels import fusion_labels
from nnunet_volf.training_files import FINAL
from nnunet_volf.weights.architectures import is_ours
from nnunet_volf.weights.export import refuse_to_overwrite
from nnunet_volf.weights.portable import Portable, portable
from nnunet_volf.weights.reading import open_weights

STOCK_TRAINER = "nnUNetTrainer"

_OURS = "volf"  # what our keys in plans begin with
_FINGERPRINT = "dataset_fingerprint.json"
_POSTPROCESSING = "crossval_results_folds_*/postprocessing.pkl"
_FOLD = re.compile(r"fold_(\d+|all)")


@dataclass(frozen=True)
class StockModel:
    """A model folder that was written."""

    folder: Path
    folds: tuple[str, ...]  # as -f of nnUNetv2_predict_from_modelfolder takes them
    unfinished: tuple[str, ...]
    installed_as: str  # where nnU-Net looks for it by dataset, below nnUNet_results
    left_out: tuple[str, ...]
    cascaded: bool  # it also sees the segmentation of the stage before
    own_network: str = ""  # the class of this package that it needs for prediction, if it does


def export_as_stock(source: Path, output: Path, trust: bool = False) -> StockModel:
    """Write the model folder of a checkpoint, or of all finished folds of a training."""
    refuse_to_overwrite(output)
    found, unfinished = checkpoints_of(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f"{output.name}.tmp")
    try:
        first = _write_folds(found, aside, trust)
        write_json(aside / "plans.json", first.plans)
        write_json(aside / "dataset.json", first.checkpoint["init_args"]["dataset_json"])
        _copy_beside(next(iter(found.values())).parent, aside)
        aside.replace(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    name = f"{STOCK_TRAINER}__{first.task.plans_name}__{first.task.configuration}"
    installed_as, cascaded = f"{first.task.dataset}/{name}", first.task.segmentation_inputs > 0
    network = first.task.architecture
    needed = network.class_name if is_ours(network) else ""
    return StockModel(output, tuple(found), unfinished, installed_as, first.left_out, cascaded, needed)


def checkpoints_of(source: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the checkpoint of each fold, and the folds that have none yet."""
    if not source.is_dir():
        fold = _FOLD.fullmatch(source.parent.name)
        return {fold[1] if fold else "0": source}, ()
    if _FOLD.fullmatch(source.name):
        return checkpoints_of(source / FINAL)
    folds = {match[1]: path for path in sorted(source.iterdir()) if (match := _FOLD.fullmatch(path.name))}
    finished = {fold: path / FINAL for fold, path in folds.items() if (path / FINAL).is_file()}
    if not finished:
        raise WeightsError(
            f"{source} has no finished fold, that is, no fold_*/{FINAL}. It has: {', '.join(folds) or 'no folds'}. "
            "Name a checkpoint, or the folder of a training: nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION."
        )
    return finished, tuple(fold for fold in folds if fold not in finished)


def _write_folds(found: Mapping[str, Path], folder: Path, trust: bool) -> Portable:
    """Write one checkpoint a fold, and return the first: nnU-Net reads one plan for all."""
    paths = list(found.values())
    first = _stock_checkpoint(paths[0], trust)
    for fold, path in found.items():
        model = first if path == paths[0] else _stock_checkpoint(path, trust)
        for name in ("configuration", "plans", "dataset_json"):
            if first.checkpoint["init_args"][name] != model.checkpoint["init_args"][name]:
                raise WeightsError(
                    f"{path} was trained with another {name} than the folds before it, and nnU-Net predicts with one "
                    "for all. Export the folds one by one."
                )
        (folder / f"fold_{fold}").mkdir(parents=True)
        write_checkpoint(folder / f"fold_{fold}" / FINAL, model.checkpoint)
    return first


def _stock_checkpoint(path: Path, trust: bool) -> Portable:
    """Return a checkpoint as nnU-Net's own trainer would have written it, less what only a training needs."""
    model = portable(open_weights(path, trust), with_heads=True)
    init = model.checkpoint["init_args"]
    if pretraining := _pretraining(model):
        raise WeightsError(
            f"{path} is a pretraining by {pretraining}, which segments no labels, so there is nothing to predict with. "
            "Fine-tune it on labels first (nnUNetv2_train … -pretrained_weights), or pass the weights on without "
            "--as-stock."
        )
    stock = {
        **model.checkpoint,
        "trainer_name": STOCK_TRAINER,
        "init_args": {**init, "plans": without_ours(model.plans)},
    }
    return Portable(stock, model.task, model.left_out)


def _pretraining(model: Portable) -> str:
    """Return the method of a pretraining in words, and nothing for any other training."""
    method = method_labelled(model.checkpoint.get(STATE_KEY, {}).get("method"))
    labels = model.checkpoint["init_args"]["dataset_json"].get("labels", {})
    if method is None and labels == fusion_labels(len(labels) - 1):  # files from before checkpoints said it
        method = METHODS["volf"]
    return method.title if method else ""


def without_ours(plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return plans without the keys of this package, which a stock nnU-Net would carry along unread."""
    configurations = {name: _foreign(configuration) for name, configuration in plans["configurations"].items()}
    return {**_foreign(plans), "configurations": configurations}


def _foreign(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if not name.startswith(_OURS)}


def _copy_beside(fold: Path, folder: Path) -> None:
    """Copy what nnU-Net has written for all folds: statistics of the data, and how predictions are cleaned up."""
    if not _FOLD.fullmatch(fold.name):
        return
    training = fold.parent
    for path in (training / _FINGERPRINT, *sorted(training.glob(_POSTPROCESSING))):
        if path.is_file():
            target = folder / path.relative_to(training)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
