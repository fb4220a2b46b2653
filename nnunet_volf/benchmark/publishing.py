"""Write down what a benchmark has found: a table of all scores, the findings as data, and a page to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nnunet_volf.benchmark.analysis.findings import Findings, findings
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.report.page import write_report
from nnunet_volf.benchmark.results import Failure, Outcome
from nnunet_volf.benchmark.tables import report_json, write_results_csv
from nnunet_volf.datasets import PREPROCESSED, RAW, find_dataset
from nnunet_volf.errors import DataError
from nnunet_volf.files import write_json


class Published(NamedTuple):
    """What was found and where to read it."""

    findings: Findings
    report: Path


def publish(
    folder: Path, experiment: Experiment, outcomes: Sequence[Outcome], failures: Sequence[Failure], command: str
) -> Published:
    """Write results.csv, report.json and report.html into the folder of a benchmark."""
    found = findings(experiment, outcomes, failures)
    write_results_csv(folder / "results.csv", outcomes)
    write_json(folder / "report.json", report_json(experiment, outcomes, found))
    truths = find_dataset(experiment.dataset, PREPROCESSED) / "gt_segmentations"
    try:
        images = find_dataset(experiment.dataset, RAW) / "imagesTr"
    except DataError:
        images = None
    report = write_report(folder, experiment, outcomes, failures, found, command, images, truths)
    return Published(found, report)
