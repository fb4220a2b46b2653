"""Folders of benchmarks as their command leaves them, with results that are made up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import benchmark_results

from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.folder import EXPERIMENT, RESULT, run_folder
from nnunet_volf.files import write_json


def write_benchmark(folder: Path, asked: Experiment, gains: Mapping[str, float]) -> str:
    """Write the question and the result of every training, and return where."""
    folder.mkdir()
    write_json(folder / EXPERIMENT, asked.to_mapping())
    for one in benchmark_results.outcomes(asked, gains):
        run_folder(folder, one.run).mkdir(parents=True)
        write_json(run_folder(folder, one.run) / RESULT, one.to_mapping())
    return str(folder)
