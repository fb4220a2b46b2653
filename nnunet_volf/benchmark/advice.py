"""What to do next, by what a benchmark has found: the command, filled in."""

from __future__ import annotations

from nnunet_volf.benchmark.analysis.findings import MEAN, Findings
from nnunet_volf.benchmark.arms import ENCODER, SCRATCH
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.datasets import dataset_number
from nnunet_volf.next_commands import FINE_TUNER, fine_tune_command

ENOUGH_SEEDS = 5


def next_step(experiment: Experiment, found: Findings) -> str:
    """Return how to train on all labels where the benchmark has an answer, or how to get one where it has none."""
    verdicts: dict[str, set[str]] = {}
    gains: dict[str, float] = {}
    for comparison in found.comparisons:
        if comparison.metric == "dice" and comparison.label == MEAN and comparison.reference == SCRATCH:
            verdicts.setdefault(comparison.arm, set()).add(comparison.verdict)
            gains[comparison.arm] = gains.get(comparison.arm, 0.0) + comparison.difference.value
    # Arms that a stock -pretrained_weights can start from; it cannot be asked for the encoder where there is more.
    usable = [
        arm for arm in experiment.arms if arm.weights is not None and arm.name != ENCODER and arm.name in verdicts
    ]
    number = dataset_number(experiment.dataset)
    names = experiment.plans_name, experiment.configuration
    better = [arm for arm in usable if "better" in verdicts[arm.name] and "worse" not in verdicts[arm.name]]
    if better:
        best = max(better, key=lambda arm: gains[arm.name])
        return f"next, with all labels: {fine_tune_command(number, *names, str(best.weights))}"
    if usable and all(verdicts[arm.name] == {"worse"} for arm in usable):
        scratch = f"nnUNetv2_train {number} {experiment.configuration} 0 -p {experiment.plans_name} -tr {FINE_TUNER}"
        return f"next, with all labels and without these weights: {scratch}"
    if len(experiment.seeds) < ENOUGH_SEEDS:
        return f"next, for a narrower interval: the same command with --seeds {ENOUGH_SEEDS}"
    return "next: other weights, as an arm of their own (--arms NAME=FILE), or a longer schedule in another folder"
