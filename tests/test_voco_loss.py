"""VoCo's losses against loops written from the specification, where gradients go, and what is known of the values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import voco_reference
from torch import Tensor

from nnunet_volf.pretext.voco.expected import KnownLosses, mean_nearest
from nnunet_volf.pretext.voco.geometry import Region, draw_starts, overlaps
from nnunet_volf.pretext.voco.labels import position_labels
from nnunet_volf.pretext.voco.loss import PositionLoss, predict
from nnunet_volf.pretext.voco.variants import VARIANTS

REGION = Region((1, 3, 3), (8, 8, 8))
PUBLISHED = Region((4, 4, 1), (64, 64, 64))


def labels_for(region: Region, volumes: int, targets: int, seed: int, all_count: bool = True) -> Tensor:
    rng = np.random.default_rng(seed)
    labels = []
    for _ in range(volumes):
        shares = overlaps(region, draw_starts(rng, region, targets))
        bases = torch.from_numpy(rng.random(len(region.bases)) < (1.0 if all_count else 0.6))
        seen = torch.from_numpy(rng.random(targets) < (1.0 if all_count else 0.7))
        labels.append(position_labels(shares, bases, seen))
    return torch.stack(labels)


def embeddings_for(labels: Tensor, width: int, seed: int, common: float = 0.5) -> Tensor:
    volumes, rows, bases = labels.shape
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(volumes, 2, bases + rows - 1, width, generator=generator)
    return drawn + common


def loss_of(variant: str, regularisation: float = 1.0, between: bool = False) -> PositionLoss:
    return PositionLoss(VARIANTS[variant], regularisation, between)


@pytest.mark.parametrize("all_count", [True, False])
@pytest.mark.parametrize(
    ("variant", "between"), [("v0", False), *((v, b) for v in ("v1", "v2") for b in (False, True))]
)
def test_the_terms_are_those_of_the_specification(variant: str, between: bool, all_count: bool) -> None:
    labels = labels_for(REGION, 3, 5, seed=1, all_count=all_count)
    embeddings = embeddings_for(labels, 6, seed=2)
    if variant == "v0":
        embeddings[:, 1] = embeddings[:, 0]
    loss = loss_of(variant, 0.7, between)
    found = loss.terms(embeddings, labels)
    student, teacher = (embeddings[:, i].tolist() for i in (0, 1))
    expected = voco_reference.terms(variant, student, teacher, labels.tolist(), between)
    values = (found.positive, found.negative, found.regularisation, found.between)
    assert [float(value) for value in values] == pytest.approx(expected, rel=1e-4)
    total = expected[0] + expected[1] + 0.7 * expected[2] + expected[3]
    assert float(loss(embeddings, labels)) == pytest.approx(total, rel=1e-4)


def test_predictions_are_cosines_of_targets_with_bases() -> None:
    labels = labels_for(REGION, 2, 3, seed=4)
    embeddings = embeddings_for(labels, 5, seed=5)
    for variant in VARIANTS:
        predicted = predict(embeddings, 9, VARIANTS[variant])
        for v in range(2):
            student, teacher = (embeddings[v, i].tolist() for i in (0, 1))
            for t in range(3):
                for b in range(9):
                    first = voco_reference.relu_cosine(student[9 + t], teacher[b])
                    both = (first + voco_reference.relu_cosine(teacher[9 + t], student[b])) / 2
                    expected = both if variant == "v1" else first
                    assert float(predicted[v, t, b]) == pytest.approx(expected, abs=1e-5)


def gradients(variant: str, regularisation: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the gradient of bases and of targets as the student sees them, a row each; the teacher has none."""
    labels = labels_for(REGION, 1, 4, seed=6)
    embeddings = embeddings_for(labels, 6, seed=7, common=1.5)
    student = embeddings[:, 0].clone().requires_grad_()
    teacher = student.detach() if variant == "v0" else embeddings[:, 1]
    loss_of(variant, regularisation)(torch.stack([student, teacher], 1), labels).backward()
    assert student.grad is not None
    moved = student.grad[0].abs().sum(1)
    return moved[:9], moved[9:]


@pytest.mark.parametrize(("variant", "bases_move"), [("v0", False), ("v1", True), ("v2", False)])
def test_predictions_move_targets_and_bases_where_the_version_says_so(variant: str, bases_move: bool) -> None:
    bases, targets = gradients(variant)
    assert (targets > 0).all()
    assert (bases > 0).all() == bases_move
    assert (bases > 0).any() == bases_move


@pytest.mark.parametrize(("variant", "last_moves"), [("v0", True), ("v2", False)])
def test_of_two_bases_that_are_alike_both_are_moved_or_only_the_first(variant: str, last_moves: bool) -> None:
    bases, _ = gradients(variant, regularisation=1.0)
    assert (bases[:-1] > 0).all()
    assert bool(bases[-1] > 0) == last_moves


def with_cosine(labels: Tensor, cosine: float) -> Tensor:
    """Embeddings of which any two have this cosine."""
    volumes, rows, bases = labels.shape
    crops = bases + rows - 1
    own = math.sqrt(1 - cosine) * torch.eye(crops)
    one = torch.cat([torch.full((crops, 1), math.sqrt(cosine)), own], dim=1)
    return one.expand(volumes, 2, -1, -1)


@pytest.mark.parametrize(
    ("variant", "collapsed", "nothing", "constant", "at"),
    [("v1", 2.99, 0.72, 0.438, 0.24), ("v0", None, 0.365, 0.268, 0.13)],
)
def test_networks_that_know_nothing_lose_what_the_specification_has_measured(
    variant: str, collapsed: float | None, nothing: float, constant: float, at: float
) -> None:
    labels = labels_for(PUBLISHED, 2500, 2, seed=8)
    loss = loss_of(variant)

    def of(cosine: float) -> float:
        return float(loss(with_cosine(labels, cosine), labels))

    if collapsed is not None:
        assert of(1.0) == pytest.approx(collapsed, abs=0.02)
    assert of(0.0) == pytest.approx(nothing, abs=0.02)
    assert of(at) == pytest.approx(constant, abs=0.004)
    assert of(at) < min(of(at - 0.1), of(at + 0.1))


def test_what_a_log_calls_known_losses_is_what_such_networks_lose() -> None:
    known = KnownLosses.of(PUBLISHED, loss_of("v1"))
    assert known.collapsed == pytest.approx(2.99, abs=0.02)
    assert known.nothing == pytest.approx(0.72, abs=0.02)
    # Bases need not be alike for all targets to be equally alike to all of them, so that this is below the 0.438 of
    # crops of which any two are: 16 bases at right angles have a cosine of 1/4 with what lies between them.
    labels = labels_for(PUBLISHED, 1000, 2, seed=9)
    between = torch.full((1, 16), 0.25).expand(2, -1)
    embeddings = torch.cat([torch.eye(16), between]).expand(1000, 2, -1, -1)
    assert float(loss_of("v1")(embeddings, labels)) == pytest.approx(known.constant, abs=0.01)
    assert known.constant < 0.4


def test_the_mean_share_in_the_nearest_base_is_what_the_specification_has_measured() -> None:
    assert mean_nearest(PUBLISHED) == pytest.approx(0.56, abs=0.01)


def test_a_perfect_prediction_loses_next_to_nothing() -> None:
    labels = labels_for(REGION, 2, 9, seed=0)
    labels[:, :-1] = torch.eye(9)
    embeddings = torch.cat([torch.eye(9), torch.eye(9)]).expand(2, 2, -1, -1)
    for variant in VARIANTS:
        assert abs(float(loss_of(variant)(embeddings, labels))) < 1e-4


@pytest.mark.parametrize("variant", ["v0", "v1", "v2"])
def test_a_volume_in_which_nothing_counts_loses_nothing_and_moves_nothing(variant: str) -> None:
    labels = torch.zeros(2, 5, 9)
    embeddings = embeddings_for(labels, 6, seed=3).requires_grad_()
    loss = loss_of(variant, between=variant != "v0")(embeddings, labels)
    loss.backward()
    assert float(loss.detach()) == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


def test_halves_are_computed_with_as_floats() -> None:
    labels = labels_for(REGION, 2, 4, seed=1)
    embeddings = embeddings_for(labels, 32, seed=2, common=8.0).half()
    expected = loss_of("v2")(embeddings.float(), labels)
    found = loss_of("v2")(embeddings, labels)
    assert found.dtype == torch.float32
    assert float(found) == float(expected)


def test_alone_in_a_batch_a_volume_has_no_other_to_be_compared_with() -> None:
    labels = labels_for(REGION, 1, 4, seed=1)
    embeddings: Any = embeddings_for(labels, 6, seed=2)
    assert float(loss_of("v2", between=True).terms(embeddings, labels).between) == 0
