"""Weights and a context block that only the file, or only the task's network, has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from weight_files import task_of, weights_from

from nnunet_volf.weights.briefing import brief, verdict
from nnunet_volf.weights.choices import CARRIED, MISSING
from nnunet_volf.weights.matching import match
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.target import Task

BLOCK = {"context.branches.0.conv.weight": (4, 8, 3, 3, 3), "context.fuse.weight": (8, 16, 1, 1, 1)}


def with_block(task: Task) -> Task:
    """Return the task with tensors of a block in its network."""
    stored = {**task.stored_shapes, **BLOCK}
    return dataclasses.replace(task, stored_shapes=stored, shapes={**task.shapes, **BLOCK})


def weights_with_block(task: Task, trained: Sequence[str] = ()) -> Pretrained:
    pretrained = weights_from(task)
    block = {name: torch.randn(shape) for name, shape in BLOCK.items()}
    stored = {**pretrained.stored, **BLOCK}
    return dataclasses.replace(
        pretrained, tensors={**pretrained.tensors, **block}, stored=stored, trained=tuple(trained)
    )


def test_a_block_that_both_have_is_carried_over() -> None:
    task = task_of()
    briefing = brief(weights_with_block(task), with_block(task))
    assert briefing.fits
    assert briefing.warnings == ()


def test_a_block_that_the_file_has_not_is_new_and_starts_as_identity() -> None:
    task = with_block(task_of())
    briefing = brief(weights_from(task_of()), task)
    rows = {row.name: row for row in briefing.match.rows if row.name in BLOCK}
    assert {(row.outcome, row.detail, row.value) for row in rows.values()} == {
        (MISSING, "new, starts as identity", None)
    }
    assert briefing.code == 3
    share = 1 - sum(row.parameters for row in rows.values()) / sum(
        row.parameters for row in briefing.match.rows if "seg_layers" not in row.name
    )
    assert verdict(briefing, task) == f"fits after adapting: {share:.1%} of the network is taken over"
    assert briefing.warnings == (
        "the task's network has a context block, the file's has none: the block is new and starts as identity",
    )


def test_a_block_that_the_task_has_not_is_left_out_and_that_is_said() -> None:
    task = task_of()
    briefing = brief(weights_with_block(task), task)
    assert briefing.fits  # nnU-Net passes over what its network has no place for
    assert set(briefing.match.left) == set(BLOCK)
    assert briefing.warnings == ("the file's network has a context block, the task's has none: the block is left out",)


@pytest.mark.parametrize("trained", [(), ("encoder",), ("encoder", "decoder")])
def test_whatever_trained_the_encoder_trained_the_block(trained: tuple[str, ...]) -> None:
    task = with_block(task_of())
    outcomes = {row.name: row.outcome for row in match(weights_with_block(task_of(), trained), task).rows}
    assert {outcomes[name] for name in BLOCK} == {CARRIED}


def test_with_the_encoder_alone_the_block_comes_along() -> None:
    task = with_block(task_of())
    outcomes = {row.name: row.outcome for row in match(weights_with_block(task_of()), task, scope="encoder").rows}
    assert {outcomes[name] for name in BLOCK} == {CARRIED}


def test_a_missing_block_counts_against_an_encoder_too() -> None:
    task = with_block(task_of())
    pretrained = dataclasses.replace(weights_from(task_of()), trained=("encoder",))
    briefing = brief(pretrained, task)
    encoder = sum(row.parameters for row in briefing.match.rows if row.name.startswith("encoder."))
    block = sum(row.parameters for row in briefing.match.rows if row.name in BLOCK)
    assert briefing.share == pytest.approx(encoder / (encoder + block))
