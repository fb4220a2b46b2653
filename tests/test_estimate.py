"""How long a training will take: the arithmetic, and that what is timed is the real thing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NnUNetFolders
from training import DATASET

from nnunet_volf import estimate
from nnunet_volf.estimate import STEPS, WARM_UP, Speed, measure_speed
from nnunet_volf.pretext.given import given_by
from nnunet_volf.pretext.volf.pretext import VolumeFusion
from nnunet_volf.pretext.volf.settings import VolFSettings


@pytest.mark.parametrize(
    ("step", "batch", "workers", "each"),
    [
        (2.0, 6.0, 0, 8.0),  # one after the other
        (2.0, 6.0, 1, 6.0),
        (2.0, 6.0, 2, 3.0),
        (2.0, 6.0, 3, 2.0),
        (2.0, 6.0, 12, 2.0),  # the network is the slower one
    ],
)
def test_a_training_takes_as_long_as_the_slower_of_network_and_loader(
    step: float, batch: float, workers: int, each: float
) -> None:
    settings = VolFSettings.from_mapping({"epochs": 10, "iterations": 7})
    assert Speed(step, batch).seconds(settings, workers) == pytest.approx(70 * each)


@pytest.mark.parametrize(
    ("durations", "expected", "steps"),
    [
        ([9.0, 5.0, 0.3, 0.9, 0.1, 0.2, 0.4], 0.3, WARM_UP + STEPS),  # the first two are not counted
        ([9.0, 5.0, 3.0, 4.0], 3.5, 4),  # 20 seconds are enough
        ([9.0, 11.0], 11.0, 2),
        ([300.0], 300.0, 1),
    ],
)
def test_the_median_of_the_steps_after_the_first_ones_counts_and_nobody_waits_long_for_it(
    monkeypatch: pytest.MonkeyPatch, durations: list[float], expected: float, steps: int
) -> None:
    now, done = [0.0], []
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])

    def step() -> None:
        now[0] += durations[len(done)]
        done.append(None)

    assert estimate._timed(step, torch.device("cpu")) == pytest.approx(expected)
    assert len(done) == steps


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_plans_own_network_is_trained_for_a_step_on_batches_of_its_size(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, configuration: str, channels: int
) -> None:
    plan = json.loads((phantoms.preprocessed / DATASET / "nnUNetPlans.json").read_text())["configurations"]
    seen: list[tuple[Any, bool]] = []

    def run_once(step: Any, device: torch.device) -> float:
        seen.append((step(), device.type == "cpu"))
        return float(len(seen))

    made: list[Any] = []
    make = estimate._network_step
    shapes: list[tuple[int, ...]] = []

    def note(config: Any, *arguments: Any) -> Any:
        made.append(arguments)
        return make(config, *arguments)

    convolution = torch.nn.Conv3d if configuration == "3d_fullres" else torch.nn.Conv2d
    forward = convolution.forward
    monkeypatch.setattr(convolution, "forward", lambda self, x: shapes.append(tuple(x.shape)) or forward(self, x))
    monkeypatch.setattr(estimate, "_timed", run_once)
    monkeypatch.setattr(estimate, "_network_step", note)
    settings = VolFSettings.from_mapping({"coefficients": 3, "foreground_ratio": 0.6})
    given = given_by(plan[configuration], [f"channel {n}" for n in range(channels)], DATASET)
    speed = measure_speed(plan[configuration], VolumeFusion(settings, given), torch.device("cpu"))
    assert speed == Speed(1.0, 2.0)
    [(pretext, data)] = made
    assert (len(pretext.labels()), data.shape[1]) == (4, channels), "one class more than coefficients"
    assert shapes[0] == (2, channels, *plan[configuration]["patch_size"])
    batch = seen[1][0]
    assert tuple(batch["data"].shape) == (2, channels, *plan[configuration]["patch_size"])
    assert int(np.asarray(batch["target"][0] if isinstance(batch["target"], list) else batch["target"]).max()) <= 3


def test_a_real_measurement_is_a_positive_number_of_seconds(phantoms: NnUNetFolders) -> None:
    plan = json.loads((phantoms.preprocessed / DATASET / "nnUNetPlans.json").read_text())["configurations"]["2d"]
    speed = measure_speed(plan, VolumeFusion(VolFSettings(), given_by(plan, ["CT"], DATASET)), torch.device("cpu"))
    assert 0 < speed.step < 60
    assert 0 < speed.batch < 60


def test_what_the_device_makes_of_a_batch_counts_as_part_of_a_step(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = json.loads((phantoms.preprocessed / DATASET / "nnUNetPlans.json").read_text())["configurations"]["2d"]
    done: list[Any] = []

    def run_once(step: Any, _: torch.device) -> float:
        done.append(step())
        return 10.0 ** len(done)

    monkeypatch.setattr(estimate, "_timed", run_once)
    settings = VolFSettings.from_mapping({"augment_on": "device"})
    speed = measure_speed(plan, VolumeFusion(settings, given_by(plan, ["CT"], DATASET)), torch.device("cpu"))
    assert speed == Speed(step=10 + 100, batch=1000)
    _, made, handed_over = done
    assert tuple(made["data"].shape) == (2, 1, *plan["patch_size"])
    assert "voxels" in handed_over


@pytest.mark.parametrize(("precision", "computed"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_network_is_timed_in_the_precision_that_it_will_be_trained_in(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, precision: str, computed: torch.dtype
) -> None:
    plan = json.loads((phantoms.preprocessed / DATASET / "nnUNetPlans.json").read_text())["configurations"]["2d"]
    dtypes: set[torch.dtype] = set()
    forward = torch.nn.Conv2d.forward

    def note(self: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        features = forward(self, images)
        dtypes.add(features.dtype)
        return features

    monkeypatch.setattr(torch.nn.Conv2d, "forward", note)
    settings = VolFSettings.from_mapping({"cpu_precision": precision})
    measure_speed(plan, VolumeFusion(settings, given_by(plan, ["CT"], DATASET)), torch.device("cpu"))
    assert dtypes == {computed}
