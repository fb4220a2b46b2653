"""Results of made-up trainings with known effects, to try the statistics and the report on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_volf.benchmark.arms import Weights, parse_arms
from nnunet_volf.benchmark.experiment import Cases, Experiment
from nnunet_volf.benchmark.results import Failure, Outcome, Run, Score
from nnunet_volf.pretext.catalogue import METHODS

EFFECT = {"scratch": 0.0, "volf": 0.04, "encoder": 0.02, "stock": 0.0}


def experiment(
    arms: Sequence[str] = ("scratch", "encoder", "volf", "stock"),
    labels: Sequence[int] = (3, 10),
    seeds: int = 3,
    folds: int = 1,
    test_cases: int = 12,
    rates: Sequence[float] = (1.0,),
    classes: Sequence[str] = ("anterior", "posterior"),
    epochs: int = 20,
    pretrained: str = "weights.pth",
) -> Experiment:
    """A question about two classes; the test cases of fold 1 follow those of fold 0."""
    names = [f"case_{number:03d}" for number in range(folds * test_cases)]
    return Experiment(
        dataset="Dataset004_Hippocampus",
        plans_name="nnUNetPlans",
        configuration="3d_fullres",
        arms=parse_arms(arms, pretrained, look),
        labels=tuple(labels),
        seeds=tuple(range(seeds)),
        rates=tuple(rates),
        cases={
            fold: Cases(
                test=tuple(names[fold * test_cases : (fold + 1) * test_cases]),
                validation=("watched_000", "watched_001"),
                pool=tuple(f"pool_{number:03d}" for number in range(max(labels))),
            )
            for fold in range(folds)
        },
        epochs=epochs,
        iterations=50,
        validation_iterations=10,
        settings={},
        classes={str(number): name for number, name in enumerate(classes, start=1)},
        tolerance=1.0,
        mirroring=True,
    )


def look(file: str, whose: str) -> Weights:
    """What is known of a file of weights, by its name: ``voco.pth`` is one of VoCo's, and ``weights.pth`` of VolF's."""
    name = file.removesuffix(".pth")
    method = METHODS.get("volf" if name == "weights" else name)
    return Weights(file, method.label, not method.whole_network) if method else Weights(file)


def outcomes(
    asked: Experiment,
    effect: Mapping[str, float] | None = None,
    noise: float = 0.02,
    seed_noise: float = 0.005,
    random_seed: int = 0,
) -> list[Outcome]:
    """Give every training a Dice that grows with its labels, plus its arm's effect, which shrinks with the labels."""
    effect = {**EFFECT, **(effect or {})}
    rng = np.random.default_rng(random_seed)
    difficulty = {case: rng.normal(0, 0.05) for cases in asked.cases.values() for case in cases.test}
    done = []
    for run in asked.runs():
        gain = effect.get(run.arm, 0.0) * 3 / run.labels - 0.05 * abs(np.log2(run.rate))
        level = 0.6 + 0.1 * np.log10(run.labels) + gain + rng.normal(0, seed_noise)
        scores = tuple(
            score(case, name, float(np.clip(level + difficulty[case] + rng.normal(0, noise), 0.01, 0.99)))
            for case in asked.cases[run.fold].test
            for name in asked.classes.values()
        )
        done.append(outcome(asked, run, scores, rising_curve(asked.epochs, float(level), float(gain))))
    return done


def score(case: str, label: str, dice: float) -> Score:
    """A score whose other metrics follow from its Dice."""
    return Score(case, label, dice, nsd=min(1.0, dice + 0.1), hd95=10 * (1 - dice), assd=3 * (1 - dice))


def outcome(asked: Experiment, run: Run, scores: tuple[Score, ...], curve: tuple[float, ...]) -> Outcome:
    """A finished training with these scores."""
    training_cases = asked.cases[run.fold].pool[: run.labels]
    conditions = {"device": "cpu", "torch": "2.1.2", "nnunetv2": "2.8.1"}
    return Outcome(run, training_cases, scores, curve, seconds=60.0, conditions=conditions)


def rising_curve(epochs: int, end: float, head_start: float = 0.0) -> tuple[float, ...]:
    """A validation Dice that rises towards its end; faster with a head start."""
    return tuple(end * (1 - float(np.exp(-(epoch + 1) * (0.2 + 4 * max(head_start, 0))))) for epoch in range(epochs))


def failure(run: Run, reason: str = "CUDA out of memory") -> Failure:
    """A training that ended without a result."""
    return Failure(run, reason, log=f"runs/{run.name}/log.txt")
