"""Segment the test cases with a trained network and score them, as nnU-Net does at the end of a training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_volf.benchmark.results import Score
from nnunet_volf.benchmark.scores import score_case

# Logits of a whole image with many classes are large: how many cases may wait for a process, as nnU-Net allows.
_WAITING = 2


class Scoring(NamedTuple):
    """What scoring needs to know beside the case."""

    classes: Mapping[str, str]
    tolerance: float
    truths: Path
    predictions: Path


def segment_and_score(trainer: Any, cases: Sequence[str], scoring: Scoring, mirroring: bool) -> tuple[Score, ...]:
    """Segment cases with the network of a trainer that has finished, keep the segmentations, and score them."""
    scoring.predictions.mkdir(parents=True, exist_ok=True)
    logits = _logits(trainer, cases, mirroring)
    parts = trainer.configuration_manager, trainer.plans_manager, trainer.dataset_json
    tasks = ((case, logits, properties, parts, scoring) for case, logits, properties in logits)
    return tuple(
        score for scores in _carry_out(export_and_score, tasks, _processes(trainer.device)) for score in scores
    )


def export_and_score(
    case: str, logits: torch.Tensor, properties: Any, parts: Sequence[Any], scoring: Scoring
) -> tuple[Score, ...]:
    """Bring a prediction back to the image's grid, write it, and compare it with the truth."""
    configuration, plans, description = parts
    target = scoring.predictions / case
    export_prediction_from_logits(logits, properties, configuration, plans, description, str(target), False)
    ending = description["file_ending"]
    return score_case(
        case,
        scoring.truths / f"{case}{ending}",
        scoring.predictions / f"{case}{ending}",
        scoring.classes,
        plans.image_reader_writer_class(),
        plans.get_label_manager(description).ignore_label,
        scoring.tolerance,
    )


def _logits(trainer: Any, cases: Sequence[str], mirroring: bool) -> Iterator[tuple[str, torch.Tensor, Any]]:
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(
        use_mirroring=mirroring,
        perform_everything_on_device=trainer.device.type == "cuda",
        device=trainer.device,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(cases))
    for case in dataset.identifiers:
        data, _, _, properties = dataset.load_case(case)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(data[:].copy())).cpu()
        yield case, logits, properties


def _processes(device: torch.device) -> int:
    """Return how many processes export while a GPU predicts; on a CPU they would only take turns."""
    return 0 if device.type == "cpu" else int(os.environ.get("nnUNet_def_n_proc", "3"))


def _carry_out(work: Callable[..., Any], tasks: Iterator[tuple[Any, ...]], processes: int) -> Iterator[Any]:
    if not processes:
        for task in tasks:
            yield work(*task)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running: list[Future[Any]] = []
        for task in tasks:
            running.append(pool.submit(work, *task))
            while len(running) >= processes + _WAITING:
                yield running.pop(0).result()
        for future in running:
            yield future.result()
