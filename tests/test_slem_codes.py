"""Which recombinations there are, which of them are classes, and that each can be undone."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slem_reference import all_codes, block_number, farthest_first, hamming, unmix_cyclic, unmix_permutation

from nnunet_volf.pretext.slem.classes import candidates, class_table
from nnunet_volf.pretext.slem.classes import farthest_first as fast_farthest_first
from nnunet_volf.pretext.slem.codes import Codes, nth_permutation
from nnunet_volf.pretext.slem.grid import block_size, blocks_of, default_grid
from nnunet_volf.pretext.slem.recombination import recombine

SMALL = [
    Codes(2, 4),
    Codes(3, 4),
    Codes(3, 2, mode="permutation"),
    Codes(4, 4, assignment="permutation"),
    Codes(2, 3, mode="mosaic"),
    Codes(2, 3, shuffle=True),
    Codes(3, 3, assignment="permutation", shuffle=True),
]


@pytest.mark.parametrize("codes", SMALL, ids=str)
def test_codes_are_numbered_as_they_are_spelt_out(codes: Codes) -> None:
    expected = all_codes(codes.channels, codes.blocks, codes.mode, codes.assignment, codes.shuffle)
    assert codes.count == len(expected)
    assert [codes.numbered(number) for number in range(codes.count)] == expected
    assert codes.symbols > max(max(code) for code in expected)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_permutations_are_found_without_listing_them(length: int) -> None:
    expected = list(itertools.permutations(range(length)))
    assert [nth_permutation(length, number) for number in range(len(expected))] == expected


def test_codes_are_drawn_evenly() -> None:
    codes, rng = Codes(2, 3), np.random.default_rng(0)
    drawn = [codes.draw(rng) for _ in range(4000)]
    counts = [drawn.count(codes.numbered(number)) for number in range(8)]
    assert sum(counts) == 4000
    assert min(counts) > 410  # 500 expected of each; four standard deviations


def test_codes_beyond_any_machine_number_can_be_drawn() -> None:
    codes = Codes(8, 8, mode="permutation")
    assert codes.count == math.factorial(8) ** 8 > 2**100
    code = codes.draw(np.random.default_rng(0))
    assert len(code) == 8
    assert all(0 <= symbol < codes.symbols for symbol in code)


@pytest.mark.parametrize(
    ("channels", "blocks", "expected"), [(2, 4, 16), (3, 4, 81), (4, 4, 256), (5, 4, 256), (4, 8, 256), (8, 8, 256)]
)
def test_the_class_table_is_unique_begins_with_the_untouched_image_and_is_the_same_again(
    channels: int, blocks: int, expected: int
) -> None:
    codes = Codes(channels, blocks)
    table = class_table(codes, 256, seed=0)
    assert len(table) == len(set(table)) == expected
    assert table[0] == (0,) * blocks
    assert table == class_table(codes, 256, seed=0)


def test_where_all_codes_are_classes_the_seed_changes_nothing_and_elsewhere_it_does() -> None:
    assert class_table(Codes(4, 4), 256, seed=0) == class_table(Codes(4, 4), 256, seed=1)
    assert class_table(Codes(5, 4), 256, seed=0) != class_table(Codes(5, 4), 256, seed=1)


@pytest.mark.parametrize(
    ("codes", "first"),
    [
        (Codes(5, 4), [(0, 0, 0, 0), (1, 2, 4, 1), (4, 4, 1, 3), (2, 1, 2, 4)]),
        (Codes(8, 8), [(0,) * 8, (6, 6, 6, 7, 7, 4, 1, 6), (7, 4, 3, 3, 3, 6, 5, 3), (1, 7, 4, 1, 4, 1, 3, 7)]),
    ],
    ids=["all candidates", "drawn candidates"],
)
def test_the_class_table_is_this_one_whatever_numpy_is_installed(codes: Codes, first: list[tuple[int, ...]]) -> None:
    """A training that is resumed years later has to find its classes: these numbers may never change."""
    assert list(class_table(codes, 256, seed=0)[:4]) == first


@pytest.mark.parametrize("codes", [Codes(3, 4), Codes(3, 3, mode="permutation"), Codes(2, 3, shuffle=True)], ids=str)
@pytest.mark.parametrize("most", [2, 7, 20])
def test_classes_are_chosen_as_the_rule_says(codes: Codes, most: int) -> None:
    among = candidates(codes, 16 * most, seed=3)
    assert among[0] == codes.numbered(0)
    assert len(set(among)) == len(among)
    if codes.count <= 16 * most:
        assert set(among) == {codes.numbered(number) for number in range(codes.count)}
    assert list(fast_farthest_first(among, most)) == farthest_first(among, most)
    if codes.count > most:
        assert class_table(codes, most, seed=3) == fast_farthest_first(among, most)


def test_chosen_classes_are_farther_apart_than_random_ones() -> None:
    codes, rng = Codes(8, 8), np.random.default_rng(0)
    table = class_table(codes, 64, seed=0)
    random = [codes.draw(rng) for _ in range(64)]
    apart, random_apart = (min(hamming(a, b) for a, b in itertools.combinations(t, 2)) for t in (table, random))
    assert apart >= 5
    assert random_apart < apart


def test_the_largest_table_is_made_in_seconds() -> None:
    started = time.perf_counter()
    assert len(class_table(Codes(8, 8), 1024, seed=0)) == 1024
    assert time.perf_counter() - started < 60, "about a second on an idle machine"


sizes = st.lists(st.tuples(st.integers(4, 9), st.integers(1, 4)), min_size=2, max_size=3)


@given(sizes=sizes)
def test_every_voxel_lies_in_the_block_with_its_number(sizes: list[tuple[int, int]]) -> None:
    size, grid = zip(*sizes, strict=True)
    painted = np.full(size, -1)
    for number, block in enumerate(blocks_of(size, grid)):
        assert (painted[block] == -1).all()
        painted[block] = number
        assert painted[block].shape == block_size(block)
    for voxel in itertools.product(*map(range, size)):
        assert painted[voxel] == block_number(voxel, size, grid)


def test_the_default_is_four_blocks_in_the_planes_of_a_volume() -> None:
    assert default_grid(2) == (2, 2)
    assert default_grid(3) == (1, 2, 2)


@settings(max_examples=40)
@given(sizes=sizes, channels=st.integers(2, 4), data=st.data(), mode=st.sampled_from(["cyclic", "permutation"]))
def test_the_code_of_a_recombined_image_undoes_it_exactly(
    sizes: list[tuple[int, int]], channels: int, data: st.DataObject, mode: str
) -> None:
    size, grid = zip(*sizes, strict=True)
    codes = Codes(channels, math.prod(grid), mode=mode)
    code = codes.numbered(data.draw(st.integers(0, codes.count - 1)))
    image = np.random.default_rng(0).normal(size=(channels, *size)).astype(np.float32)

    recombined = recombine(torch.from_numpy(image), grid, codes, code).numpy()
    unmix = unmix_cyclic if mode == "cyclic" else unmix_permutation
    np.testing.assert_array_equal(unmix(recombined, grid, code), image)
    if set(code) == {0}:
        np.testing.assert_array_equal(recombined, image)


def test_the_first_channel_of_a_cyclic_recombination_is_the_published_mosaic() -> None:
    codes, code, grid = Codes(4, 4), (2, 0, 3, 1), (2, 2)
    image = torch.arange(4.0)[:, None, None].expand(4, 6, 6)
    first = recombine(image, grid, codes, code)[0]
    assert first[:3, :3].unique().tolist() == [2]
    assert first[:3, 3:].unique().tolist() == [0]
    assert first[3:, :3].unique().tolist() == [3]
    assert first[3:, 3:].unique().tolist() == [1]
    assert torch.equal(recombine(image, grid, codes, code).sum(0), torch.full((6, 6), 6.0)), "each channel once"


def test_a_mosaic_shows_one_channel_a_block_in_all_channels_and_sums_to_it() -> None:
    codes = Codes(2, 4, mode="mosaic")
    image = torch.randn(2, 4, 6, 6)
    mosaic = recombine(image, (1, 2, 2), codes, (1, 0, 0, 1))
    assert torch.equal(mosaic[0], mosaic[1])
    assert torch.equal(mosaic.sum(0)[:, :3, :3], image[1][:, :3, :3])
    assert torch.equal(mosaic.sum(0)[:, :3, 3:], image[0][:, :3, 3:])


def test_shuffled_blocks_show_the_block_that_the_code_names() -> None:
    codes, grid = Codes(2, 4, shuffle=True), (2, 2)
    image = torch.randn(2, 6, 8)
    code = tuple(source * 2 + order for source, order in ((3, 1), (2, 0), (0, 1), (1, 0)))
    shuffled = recombine(image, grid, codes, code)
    assert torch.equal(shuffled[:, :3, :4], image[:, 3:, 4:].flip(0))
    assert torch.equal(shuffled[:, :3, 4:], image[:, 3:, :4])
    assert torch.equal(shuffled[:, 3:, :4], image[:, :3, :4].flip(0))
    assert torch.equal(shuffled[:, 3:, 4:], image[:, :3, 4:])


def test_recombining_leaves_its_input_as_it_is() -> None:
    image = torch.randn(2, 4, 4)
    before = image.clone()
    for mode in ("cyclic", "mosaic", "permutation"):
        recombine(image, (2, 2), Codes(2, 4, mode=mode), (1, 0, 1, 1))
    assert torch.equal(image, before)
