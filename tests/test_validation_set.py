"""The fixed set of held-out fusions, and how it is dealt to several ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_volf.validation import FixedBatches, batches_of_rank


class Numbered:
    """Stands in for a loader: its samples say by which seed and number they were asked for."""

    def __init__(self) -> None:
        self.made = 0

    def fixed_sample(self, seed: int, index: int) -> dict[str, Any]:
        self.made += 1
        shown = torch.tensor([seed, index])
        return {"image": shown, "target": shown, "keys": (str(index), str(index))}


def numbers(batch: dict[str, Any]) -> list[int]:
    return [int(index) for _, index in batch["data"]]


def test_batches_hold_the_samples_that_were_asked_for() -> None:
    batches = FixedBatches(Numbered(), 7, [[0, 1], [4, 5]])  # type: ignore[arg-type]
    assert [numbers(next(batches)), numbers(next(batches))] == [[0, 1], [4, 5]]


def test_samples_are_made_from_the_given_seed() -> None:
    batch = next(FixedBatches(Numbered(), 7, [[0, 1]]))  # type: ignore[arg-type]
    assert batch["data"][:, 0].tolist() == [7, 7]


def test_after_the_last_batch_comes_the_first() -> None:
    batches = FixedBatches(Numbered(), 7, [[0], [1], [2]])  # type: ignore[arg-type]
    assert [numbers(next(batches))[0] for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_samples_are_made_once() -> None:
    loader = Numbered()
    batches = FixedBatches(loader, 7, [[0, 1], [2, 3]])  # type: ignore[arg-type]
    for _ in range(10):
        next(batches)
    assert loader.made == 4


def test_the_length_is_the_number_of_different_batches() -> None:
    assert len(FixedBatches(Numbered(), 7, [[0], [1], [2]])) == 3  # type: ignore[arg-type]


def test_a_loop_may_start_over_the_batches() -> None:
    batches = FixedBatches(Numbered(), 7, [[0], [1]])  # type: ignore[arg-type]
    assert [numbers(batch)[0] for batch, _ in zip(batches, range(3), strict=False)] == [0, 1, 0]


def shared(global_batch: int, ranks: int) -> list[int]:
    """nnU-Net's batch size for each rank: as equal as can be, the first ones larger."""
    return [global_batch // ranks + (rank < global_batch % ranks) for rank in range(ranks)]


DEALT = st.integers(1, 8).flatmap(lambda ranks: st.tuples(st.integers(1, 100), st.integers(ranks, 24), st.just(ranks)))


def deal(samples: int, global_batch: int, ranks: int) -> list[list[list[int]]]:
    sizes = shared(global_batch, ranks)
    return [batches_of_rank(samples, global_batch, sizes[rank], rank, ranks) for rank in range(ranks)]


@given(DEALT)
def test_no_number_is_dealt_twice(dealt: tuple[int, int, int]) -> None:
    given = [number for rank in deal(*dealt) for batch in rank for number in batch]
    assert len(given) == len(set(given))


@given(DEALT)
def test_every_rank_gets_as_many_batches(dealt: tuple[int, int, int]) -> None:
    assert len({len(rank) for rank in deal(*dealt)}) == 1


@given(DEALT)
def test_every_batch_has_the_size_of_its_rank(dealt: tuple[int, int, int]) -> None:
    _, global_batch, ranks = dealt
    for rank, size in zip(deal(*dealt), shared(global_batch, ranks), strict=True):
        assert {len(batch) for batch in rank} == {size}


@given(DEALT)
def test_at_least_the_samples_asked_for_are_dealt_and_less_than_a_batch_more(
    dealt: tuple[int, int, int],
) -> None:
    samples, global_batch, _ = dealt
    total = sum(len(batch) for rank in deal(*dealt) for batch in rank)
    assert samples <= total < samples + global_batch


@pytest.mark.parametrize(("samples", "batch"), [(16, 2), (5, 2), (1, 4)])
def test_alone_numbers_are_dealt_in_order(samples: int, batch: int) -> None:
    dealt = [number for numbers in batches_of_rank(samples, batch, batch) for number in numbers]
    assert dealt == list(range(len(dealt)))


def test_two_ranks_make_the_set_that_one_makes() -> None:
    alone = {number for batch in batches_of_rank(16, 4, 4) for number in batch}
    assert {number for rank in deal(16, 4, 2) for batch in rank for number in batch} == alone
