"""A table of attention's bias by MIS-FM's index, re-gathered, gives the same bias for each pair of voxels by Swin's."""

from __future__ import annotations

import pytest
import torch
from published_networks import published_index

from nnunet_volf.weights.bias_tables import rows_of, rows_of_mis_fm, widened, window_of


def swin_index(window: int) -> torch.Tensor:
    places = [(z, y, x) for z in range(window) for y in range(window) for x in range(window)]
    side = 2 * window - 1
    rows = [
        [side**2 * (a[0] - b[0] + window - 1) + side * (a[1] - b[1] + window - 1) + (a[2] - b[2] + window - 1)
         for b in places] for a in places
    ]  # fmt: skip
    return torch.tensor(rows)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 6])
def test_every_pair_of_voxels_keeps_its_bias(window: int) -> None:
    table = torch.randn((2 * window - 1) ** 3, 2)
    gathered = table[rows_of_mis_fm(window)]
    assert gathered.shape == table.shape
    assert torch.equal(gathered[swin_index(window)], table[published_index(window)])


def test_the_published_index_uses_291_of_1331_rows() -> None:
    assert len(rows_of_mis_fm(6).unique()) == 291
    assert published_index(6).max() == 290


@pytest.mark.parametrize("window", [1, 2, 4])
def test_rows_are_found_from_an_index(window: int) -> None:
    assert torch.equal(rows_of(published_index(window), window), rows_of_mis_fm(window))
    own = rows_of(swin_index(window), window)
    assert torch.equal(own, torch.arange((2 * window - 1) ** 3)), "a repaired index leaves its table as it is"


def test_what_is_no_index_of_relative_positions_is_noticed() -> None:
    index = published_index(2)
    uneven = index.clone()
    uneven[0, 1] += 1
    for wrong in (uneven, index + 1000, index - 10, index[:4], index.double()):
        assert rows_of(wrong, 2) is None


def test_a_widened_table_is_the_same_for_the_ways_that_there_were() -> None:
    table = torch.randn(7**3, 2)
    wide = widened(table, 6)
    assert wide.shape == (1331, 2)
    cube = wide.view(11, 11, 11, 2)
    assert torch.equal(cube[2:9, 2:9, 2:9], table.view(7, 7, 7, 2))
    assert cube.count_nonzero() == table.count_nonzero()
    assert torch.equal(widened(table, 4), table)


@pytest.mark.parametrize(("rows", "window"), [(1331, 6), (343, 4), (1, 1), (27, 2), (1330, None), (8, None)])
def test_a_table_tells_its_window(rows: int, window: int | None) -> None:
    assert window_of(torch.zeros(rows, 3)) == window
    assert window_of(torch.zeros(rows)) is None
