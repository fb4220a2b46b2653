"""Where random numbers come from, and that their state can be put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_volf.randomness import capture_global_state, fresh_rng, restore_global_state, sample_rng

# The tests below are about numpy's global state, which batchgenerators seeds and reads.
# ruff: noqa: NPY002


@pytest.fixture(autouse=True)
def global_state() -> Iterator[None]:
    """Leave the global generators as they were found."""
    state = capture_global_state()
    yield
    restore_global_state(state)


def draw() -> list[float]:
    """Draw from each of the global generators."""
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.random(),
        np.random.normal(),
        float(torch.rand(())),
    ]


def test_a_fresh_generator_follows_the_global_seed() -> None:
    values = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        values.append(fresh_rng().random())
    assert values[0] == values[1] != values[2]


def test_each_fresh_generator_is_another_one() -> None:
    assert len({fresh_rng().random() for _ in range(100)}) == 100


def test_a_fresh_generator_moves_numpys_state_and_no_other() -> None:
    before = random.getstate(), torch.get_rng_state()
    np.random.seed(3)
    first = np.random.random()
    np.random.seed(3)
    fresh_rng()
    assert np.random.random() != first
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_using_a_fresh_generator_leaves_the_global_state_alone() -> None:
    np.random.seed(4)
    fresh_rng()
    expected = np.random.random()
    np.random.seed(4)
    fresh_rng().normal(size=100)
    assert np.random.random() == expected


def test_a_samples_generator_depends_on_seed_and_number_alone() -> None:
    np.random.seed(5)
    first = sample_rng(7, 3).random()
    np.random.seed(6)
    assert sample_rng(7, 3).random() == first


def test_a_samples_generator_leaves_the_global_state_alone() -> None:
    state = np.random.get_state()[1].copy()
    sample_rng(7, 3).random()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_samples_differ_by_seed_and_by_number() -> None:
    values = {sample_rng(seed, index).random() for seed in range(10) for index in range(10)}
    assert len(values) == 100


def test_a_state_that_is_put_back_gives_the_same_numbers() -> None:
    draw()
    state = capture_global_state()
    expected = draw()
    draw()
    restore_global_state(state)
    assert draw() == expected


def test_a_drawn_but_unused_normal_number_is_part_of_the_state() -> None:
    """Both Python and numpy draw normal numbers in pairs and keep the second."""
    random.gauss(0, 1)
    np.random.normal()
    state = capture_global_state()
    expected = random.gauss(0, 1), np.random.normal()
    random.seed(0)
    np.random.seed(0)
    restore_global_state(state)
    assert (random.gauss(0, 1), np.random.normal()) == expected


def test_a_state_is_loaded_by_torch_without_trust(tmp_path: Path) -> None:
    torch.save(capture_global_state(), tmp_path / "state.pt")
    expected = draw()
    restore_global_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == expected


def test_states_of_other_graphics_cards_are_passed_over() -> None:
    state = {**capture_global_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * 99}
    expected = draw()
    restore_global_state(state)
    assert draw() == expected
