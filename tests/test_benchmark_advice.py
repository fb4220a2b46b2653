"""What a benchmark tells to do next follows from what it has found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmark_results import experiment, outcomes

from nnunet_volf.benchmark.advice import next_step
from nnunet_volf.benchmark.analysis.findings import findings
from nnunet_volf.benchmark.arms import Arm
from nnunet_volf.benchmark.experiment import Experiment

NUMBERS = {"seed_noise": 0.001, "noise": 0.002}


def question(seeds: int = 3) -> Experiment:
    arms = (Arm("scratch"), Arm("encoder", weights="w.pth", scope="encoder"), Arm("volf", weights="w.pth"))
    return replace(experiment(arms=("scratch", "encoder", "volf"), labels=(3,), seeds=seeds), arms=arms)


@pytest.mark.parametrize(
    ("effect", "seeds", "expected"),
    [
        (0.1, 3, "-tr nnUNetTrainerVolFFineTune -pretrained_weights w.pth"),
        (-0.1, 3, "next, with all labels and without these weights: nnUNetv2_train"),
        (0.0, 3, "next, for a narrower interval: the same command with --seeds 5"),
        (0.0, 5, "next: other weights, as an arm of their own (--arms NAME=FILE), or a longer schedule"),
    ],
)
def test_the_next_step_fits_the_finding(effect: float, seeds: int, expected: str) -> None:
    asked = question(seeds)
    done = outcomes(asked, effect={"volf": effect, "encoder": 0.1}, **NUMBERS)
    said = next_step(asked, findings(asked, done, []))
    assert expected in said
    assert said.startswith("next")


def test_without_pretrained_weights_more_seeds_are_all_that_can_be_told() -> None:
    asked = experiment(arms=("scratch", "stock"), labels=(3,), seeds=2)
    assert "--seeds 5" in next_step(asked, findings(asked, outcomes(asked), []))


def test_of_several_methods_that_help_the_one_that_helps_most_is_taken_also_where_it_trains_the_encoder_only() -> None:
    asked = experiment(arms=("volf=volf.pth", "voco=voco.pth", "mae=mae.pth"), labels=(3, 10))
    for best in ("volf", "voco", "mae"):
        effect = {"volf": 0.1, "voco": 0.1, "mae": 0.1, best: 0.2}
        done = outcomes(asked, effect=effect, **NUMBERS)
        assert next_step(asked, findings(asked, done, [])).endswith(f"-pretrained_weights {best}.pth")
