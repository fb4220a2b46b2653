"""Drawing, painting and mixing, compared with the literal rules of the two publications."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_volf.pretext.volf import fusion
from nnunet_volf.pretext.volf.fusion import (
    Boxes,
    Grid,
    Shuffle,
    draw_layout,
    fuse,
    move_blocks,
    paint,
    size_ranges,
    volume_fusion,
)
from nnunet_volf.pretext.volf.settings import VolFSettings

PATCHES = st.one_of(
    st.tuples(*[st.integers(4, 24)] * 2),
    st.tuples(*[st.integers(4, 11)] * 3),
)
SEEDS = st.integers(0, 2**32 - 1)
COEFFICIENTS = st.integers(2, 16)
RATIOS = st.integers(5, 95).map(lambda percent: percent / 100)
quick = settings(max_examples=30, deadline=None)


def make(**values: Any) -> VolFSettings:
    return VolFSettings.from_mapping(values)


def pair(seed: int, patch: tuple[int, ...], channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, channels, *patch)).astype(np.float32)
    return torch.from_numpy(first), torch.from_numpy(second)


def fused_by_library(
    seed: int, patch: tuple[int, ...], chosen: VolFSettings, channels: int = 1
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    background, foreground = pair(seed, patch, channels)
    layout = draw_layout(np.random.default_rng(seed), patch, chosen)
    image, labels = volume_fusion(background, foreground, layout, chosen.coefficients)
    return layout, background.numpy(), foreground.numpy(), image.numpy(), labels.numpy()


# -------------------------------------------------------------------------------------------- painting


@quick
@given(PATCHES, COEFFICIENTS, SEEDS, RATIOS, st.booleans())
def test_a_grid_is_painted_block_by_block(patch: tuple[int, ...], k: int, seed: int, ratio: float, cover: bool) -> None:
    chosen = make(coefficients=k, foreground_ratio=ratio, full_cover=cover)
    layout = draw_layout(np.random.default_rng(seed), patch, chosen)
    expected = reference.paint_grid([rows.tolist() for rows in layout.runs], layout.classes)
    np.testing.assert_array_equal(paint(layout, patch), expected)


@quick
@given(PATCHES, COEFFICIENTS, SEEDS)
def test_later_boxes_cover_earlier_ones(patch: tuple[int, ...], k: int, seed: int) -> None:
    layout = draw_layout(np.random.default_rng(seed), patch, make(scheme="boxes", coefficients=k, boxes=(1, 8)))
    boxes = list(zip(layout.lower.tolist(), layout.upper.tolist(), layout.classes.tolist(), strict=True))
    np.testing.assert_array_equal(paint(layout, patch), reference.paint_boxes(patch, boxes))


def test_painting_a_shuffle_paints_its_grid() -> None:
    layout = draw_layout(np.random.default_rng(0), (12, 16, 16), make(scheme="shuffle"))
    np.testing.assert_array_equal(paint(layout, (12, 16, 16)), paint(layout.grid, (12, 16, 16)))


@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
def test_a_label_map_is_small_integers_up_to_k(scheme: str) -> None:
    for seed in range(20):
        labels = paint(
            draw_layout(np.random.default_rng(seed), (16, 16, 16), make(scheme=scheme, coefficients=7)),
            (16, 16, 16),
        )
        assert labels.dtype == np.uint8
        assert labels.max() <= 7


# ---------------------------------------------------------------------------------------------- mixing


@quick
@given(PATCHES, COEFFICIENTS, SEEDS, RATIOS, st.booleans())
def test_the_grid_image_follows_the_formula(
    patch: tuple[int, ...], k: int, seed: int, ratio: float, cover: bool
) -> None:
    chosen = make(coefficients=k, foreground_ratio=ratio, full_cover=cover)
    _, background, foreground, image, labels = fused_by_library(seed, patch, chosen)
    np.testing.assert_allclose(image, reference.fuse(background, foreground, labels[0], k), atol=2e-6)


@quick
@given(PATCHES, COEFFICIENTS, SEEDS)
def test_the_boxes_image_follows_the_formula(patch: tuple[int, ...], k: int, seed: int) -> None:
    chosen = make(scheme="boxes", coefficients=k)
    _, background, foreground, image, labels = fused_by_library(seed, patch, chosen)
    np.testing.assert_allclose(image, reference.fuse(background, foreground, labels[0], k), atol=2e-6)


@quick
@given(PATCHES, COEFFICIENTS, SEEDS, RATIOS, st.integers(1, 3))
def test_the_shuffle_image_shows_the_source_block_in_the_target_block(
    patch: tuple[int, ...], k: int, seed: int, ratio: float, channels: int
) -> None:
    chosen = make(scheme="shuffle", coefficients=k, foreground_ratio=ratio)
    layout, background, foreground, image, _ = fused_by_library(seed, patch, chosen, channels)
    offset = [int(rows[0]) for rows in layout.grid.runs]
    block = [int(rows[1]) for rows in layout.grid.runs]
    inner = layout.grid.classes[(slice(1, -1),) * len(patch)]
    places = list(reference.voxels(inner.shape))
    pairs = [(t, places[s], int(inner[t])) for t, s in zip(places, layout.source, strict=True) if inner[t]]
    expected = reference.fuse_shuffled(background, foreground, offset, block, pairs, k)
    np.testing.assert_allclose(image, expected, atol=2e-6)


@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
@pytest.mark.parametrize("k", [2, 3, 4, 7, 16])
def test_the_label_is_k_times_the_coefficient(scheme: str, k: int) -> None:
    layout = draw_layout(np.random.default_rng(k), (16, 16, 16), make(scheme=scheme, coefficients=k))
    alpha, labels = volume_fusion(torch.zeros(1, 16, 16, 16), torch.ones(1, 16, 16, 16), layout, k)
    np.testing.assert_allclose(k * alpha.numpy(), labels.numpy(), atol=1e-5)
    assert len(labels.unique()) > 2


@pytest.mark.parametrize("k", range(2, 17))
def test_the_last_class_is_the_foreground_to_the_bit(k: int) -> None:
    background, foreground = pair(k, (6, 7, 8))
    labels = torch.full((6, 7, 8), k, dtype=torch.uint8)
    assert torch.equal(fuse(background * 1e4, foreground, labels, k), foreground)


@pytest.mark.parametrize("k", range(2, 17))
def test_class_zero_is_the_background_to_the_bit(k: int) -> None:
    background, foreground = pair(k, (6, 7, 8))
    labels = torch.zeros((6, 7, 8), dtype=torch.uint8)
    assert torch.equal(fuse(background, foreground * 1e4, labels, k), background)


@pytest.mark.parametrize("patch", [(20, 24), (8, 12, 16)])
@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
def test_images_come_out_as_float32_and_labels_as_uint8(scheme: str, patch: tuple[int, ...]) -> None:
    layout = draw_layout(np.random.default_rng(3), patch, make(scheme=scheme))
    image, labels = volume_fusion(*pair(3, patch, channels=2), layout, 4)
    assert (image.dtype, tuple(image.shape)) == (torch.float32, (2, *patch))
    assert (labels.dtype, tuple(labels.shape)) == (torch.uint8, (1, *patch))


@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
def test_channels_share_one_coefficient_map(scheme: str) -> None:
    patch = (8, 12, 16)
    layout = draw_layout(np.random.default_rng(4), patch, make(scheme=scheme))
    background, foreground = pair(4, patch, channels=3)
    together, _ = volume_fusion(background, foreground, layout, 4)
    alone = [volume_fusion(background[c, None], foreground[c, None], layout, 4)[0] for c in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
def test_fusing_leaves_its_inputs_as_they_are(scheme: str) -> None:
    background, foreground = pair(5, (8, 12, 16))
    before = background.clone(), foreground.clone()
    volume_fusion(background, foreground, draw_layout(np.random.default_rng(5), (8, 12, 16), make(scheme=scheme)), 4)
    assert torch.equal(background, before[0])
    assert torch.equal(foreground, before[1])


@quick
@given(PATCHES, COEFFICIENTS, st.integers(1, 300), SEEDS)
def test_volumes_are_mixed_in_slabs_as_the_formula_says(patch: tuple[int, ...], k: int, voxels: int, seed: int) -> None:
    background, foreground = pair(seed, patch, channels=2)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, k, patch, dtype=np.uint8, endpoint=True))
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(fusion, "SLAB_VOXELS", voxels)
        fused = fuse(background, foreground, labels, k)
    expected = reference.fuse(background.numpy(), foreground.numpy(), labels.numpy(), k)
    np.testing.assert_allclose(fused.numpy(), expected, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
def test_a_gpu_fuses_as_a_cpu_does(scheme: str) -> None:
    patch = (16, 24, 32)
    layout = draw_layout(np.random.default_rng(6), patch, make(scheme=scheme))
    background, foreground = pair(6, patch, channels=2)
    image, labels = volume_fusion(background, foreground, layout, 4)
    image_there, labels_there = volume_fusion(background.cuda(), foreground.cuda(), layout, 4)
    assert image_there.is_cuda
    assert torch.equal(labels_there.cpu(), labels)
    torch.testing.assert_close(image_there.cpu(), image, rtol=0, atol=1e-6)


# --------------------------------------------------------------------------------------------- drawing


@quick
@given(PATCHES, SEEDS, RATIOS, st.booleans())
def test_an_exact_number_of_blocks_is_fused(patch: tuple[int, ...], seed: int, ratio: float, cover: bool) -> None:
    layout = draw_layout(np.random.default_rng(seed), patch, make(foreground_ratio=ratio, full_cover=cover))
    blocks = layout.classes if cover else layout.classes[(slice(1, -1),) * len(patch)]
    assert np.count_nonzero(layout.classes) == math.floor(blocks.size * ratio)


@quick
@given(PATCHES, SEEDS, st.booleans())
def test_rows_of_blocks_add_up_to_the_patch(patch: tuple[int, ...], seed: int, cover: bool) -> None:
    layout = draw_layout(np.random.default_rng(seed), patch, make(full_cover=cover))
    assert tuple(int(rows.sum()) for rows in layout.runs) == patch
    assert tuple(len(rows) for rows in layout.runs) == layout.classes.shape


@quick
@given(PATCHES, SEEDS)
def test_covering_blocks_are_of_one_size_and_only_cut_at_the_border(patch: tuple[int, ...], seed: int) -> None:
    chosen = make(full_cover=True)
    layout = draw_layout(np.random.default_rng(seed), patch, chosen)
    for rows, (low, high) in zip(layout.runs, size_ranges(patch, chosen), strict=True):
        assert rows.min() >= 1
        assert rows.max() <= high
        if len(rows) > 2:
            assert len(set(rows[1:-1].tolist())) == 1
            assert low <= rows[1]
            assert max(rows[0], rows[-1]) <= rows[1]


@quick
@given(PATCHES, SEEDS)
def test_whole_blocks_have_sizes_within_their_range(patch: tuple[int, ...], seed: int) -> None:
    chosen = make(full_cover=False)
    layout = draw_layout(np.random.default_rng(seed), patch, chosen)
    for rows, (low, high) in zip(layout.runs, size_ranges(patch, chosen), strict=True):
        assert len(set(rows[1:-1].tolist())) == 1
        assert low <= rows[1] <= high


@pytest.mark.parametrize(("cover", "thickness"), [(False, range(5)), (True, range(1, 6))])
def test_a_grid_begins_anywhere_equally_often(cover: bool, thickness: range) -> None:
    """With a block of 5 and a side of 14, the rim is 0 to 4 voxels thick, or the first cut block 1 to 5."""
    chosen = make(size_voxels=[[5, 5]] * 2, full_cover=cover)
    grids = [draw_layout(np.random.default_rng([3, i]), (14, 14), chosen) for i in range(500)]
    counts = Counter(int(rows[0]) for grid in grids for rows in grid.runs)
    assert sorted(counts) == list(thickness)
    assert max(abs(n - 200) for n in counts.values()) < 4 * math.sqrt(1000 * 0.2 * 0.8)


def test_a_covering_grid_may_fuse_every_border() -> None:
    corners = [
        paint(draw_layout(np.random.default_rng(seed), (16, 16, 16), make()), (16, 16, 16))[::15, ::15, ::15] > 0
        for seed in range(40)
    ]
    assert np.all(np.any(corners, axis=0))


@pytest.mark.parametrize("patch", [(64, 128, 128), (96, 96, 96), (48, 192, 192)])
def test_the_reference_of_2025_places_whole_blocks_of_8_to_32_voxels_in_a_rim_of_background(
    patch: tuple[int, ...],
) -> None:
    chosen = make(preset="reference-2025")
    for seed in range(50):
        layout = draw_layout(np.random.default_rng(seed), patch, chosen)
        for axis, (rows, side) in enumerate(zip(layout.runs, patch, strict=True)):
            block = int(rows[1])
            assert 8 <= block <= 32
            assert set(rows[1:-1].tolist()) == {block}
            assert rows[0] + rows[-1] == side % block
            assert not np.take(layout.classes, [0, -1], axis=axis).any()


@pytest.mark.parametrize("end", [8, 32])
def test_the_reference_of_2025_reaches_both_ends_of_its_sizes(end: int) -> None:
    chosen = make(preset="reference-2025")
    drawn = [draw_layout(np.random.default_rng(seed), (64, 128, 128), chosen) for seed in range(200)]
    assert any(int(rows[1]) == end for layout in drawn for rows in layout.runs)


@pytest.mark.parametrize("patch", [(40, 50), (64, 128, 128)])
def test_boxes_lie_inside_the_patch(patch: tuple[int, ...]) -> None:
    for seed in range(50):
        layout = draw_layout(np.random.default_rng(seed), patch, make(preset="reference-2023"))
        assert (layout.lower >= 0).all()
        assert (layout.upper <= np.array(patch)).all()
        assert (layout.lower < layout.upper).all()


def test_boxes_are_smaller_than_their_range_only_where_the_border_clips_them() -> None:
    patch, chosen = (64, 128, 128), make(preset="reference-2023")
    low, high = np.array(size_ranges(patch, chosen)).T
    for seed in range(100):
        layout = draw_layout(np.random.default_rng(seed), patch, chosen)
        size = layout.upper - layout.lower
        at_border = (layout.lower == 0) | (layout.upper == np.array(patch))
        assert (size <= high).all()
        assert ((size >= low) | at_border).all()


def test_ten_to_forty_boxes_are_drawn_and_both_ends_occur() -> None:
    counts = {
        len(draw_layout(np.random.default_rng(seed), (64, 128, 128), make(preset="reference-2023")).classes)
        for seed in range(400)
    }
    assert (min(counts), max(counts)) == (10, 40)


@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
def test_every_class_from_one_to_k_is_drawn_about_equally_often(scheme: str) -> None:
    counts = np.zeros(6)
    for seed in range(200):
        layout = draw_layout(np.random.default_rng(seed), (32, 32, 32), make(scheme=scheme, coefficients=5))
        classes = (layout.grid if isinstance(layout, Shuffle) else layout).classes
        counts += np.bincount(classes.ravel(), minlength=6)
    fused = counts[1:]
    expected = fused.sum() / 5
    assert np.abs(fused - expected).max() < 4 * math.sqrt(expected)  # four standard deviations of a count


def test_every_block_of_a_shuffle_is_the_source_of_one_block() -> None:
    layout = draw_layout(np.random.default_rng(0), (16, 24, 24), make(scheme="shuffle"))
    blocks = math.prod(len(rows) - 2 for rows in layout.grid.runs)
    assert sorted(layout.source.tolist()) == list(range(blocks))


def test_moving_blocks_leaves_the_rim_in_place() -> None:
    rows = np.array([1, 3, 3, 2])
    layout = Shuffle(Grid((rows, rows), np.zeros((4, 4), dtype=np.uint8)), np.array([3, 2, 1, 0]))
    volume = torch.arange(81.0).reshape(1, 9, 9)
    moved = move_blocks(volume, layout)
    rim = torch.ones(9, 9, dtype=torch.bool)
    rim[1:7, 1:7] = False
    assert torch.equal(moved[:, rim], volume[:, rim])
    assert torch.equal(moved[0, 1:4, 1:4], volume[0, 4:7, 4:7])
    assert torch.equal(moved[0, 1:4, 4:7], volume[0, 4:7, 1:4])


def plain(layout: Grid | Boxes | Shuffle) -> list[Any]:
    if isinstance(layout, Shuffle):
        return [*plain(layout.grid), layout.source.tolist()]
    if isinstance(layout, Grid):
        return [*(rows.tolist() for rows in layout.runs), layout.classes.tolist()]
    return [layout.lower.tolist(), layout.upper.tolist(), layout.classes.tolist()]


@pytest.mark.parametrize("scheme", ["grid", "boxes", "shuffle"])
def test_a_layout_is_a_function_of_the_seed(scheme: str) -> None:
    chosen = make(scheme=scheme)
    first, again, other = (plain(draw_layout(np.random.default_rng(s), (24, 24, 24), chosen)) for s in (1, 1, 2))
    assert first == again
    assert first != other


# -------------------------------------------------------------------------------------- size of blocks


def test_sizes_given_in_voxels_are_cut_to_the_patch() -> None:
    assert size_ranges((4, 20, 100), make(size_voxels=[[8, 32]] * 3)) == ((4, 4), (8, 20), (8, 32))


def test_a_flat_patch_takes_the_last_of_the_sizes_given_in_voxels() -> None:
    assert size_ranges((100, 100), make(size_voxels=[[1, 2], [8, 40], [8, 80]])) == ((8, 40), (8, 80))


def test_a_fraction_scales_with_each_side_of_the_patch() -> None:
    assert size_ranges((64, 128, 192), make(size_fraction=[0.1, 0.25], size_minimum=1)) == (
        (6, 16),
        (12, 32),
        (19, 48),
    )


def test_the_grids_own_sizes_are_those_of_the_publication_at_128_voxels() -> None:
    assert size_ranges((128, 128, 128), make()) == ((8, 32),) * 3


def test_the_boxes_own_sizes_are_those_of_the_publication_in_plane() -> None:
    assert size_ranges((128, 128, 128), make(scheme="boxes")) == ((8, 80),) * 3


def test_the_smallest_size_shrinks_with_the_axis_but_not_below_two_voxels() -> None:
    assert [low for low, _ in size_ranges((10, 20, 40), make(size_fraction=[0.001, 0.5], size_minimum=8))] == [2, 4, 8]


def test_a_size_never_exceeds_its_axis() -> None:
    assert size_ranges((1, 3, 64), make())[:2] == ((1, 1), (2, 2))


@quick
@given(PATCHES, st.sampled_from(["grid", "boxes", "shuffle"]), st.integers(1, 64))
def test_size_ranges_are_ordered_and_fit(patch: tuple[int, ...], scheme: str, minimum: int) -> None:
    ranges = size_ranges(patch, make(scheme=scheme, size_minimum=minimum))
    assert all(1 <= low <= high <= side for (low, high), side in zip(ranges, patch, strict=True))


# ------------------------------------------------------- distributions, against the literal procedures

DRAWS = 300
SMALL = (24, 40, 40)
BLOCKS = ((4, 8), (5, 12), (5, 12))


def of_literal_procedure(draw: Any, *rules: Any) -> tuple[np.ndarray, list[int]]:
    rng = random.Random(20250101)
    drawn = [draw(rng, SMALL, BLOCKS, *rules) for _ in range(DRAWS)]
    return np.array([reference.shares(labels, 4) for labels, _ in drawn]), [count for _, count in drawn]


def of_library(**values: Any) -> tuple[np.ndarray, list[int]]:
    chosen = make(size_voxels=BLOCKS, **values)
    layouts = [draw_layout(np.random.default_rng([7, i]), SMALL, chosen) for i in range(DRAWS)]
    counts = [len(x.classes) if isinstance(x, Boxes) else x.classes[(slice(1, -1),) * 3].size for x in layouts]
    return np.array([reference.shares(paint(x, SMALL), 4) for x in layouts]), counts


@pytest.fixture(scope="module")
def grids() -> tuple[tuple[np.ndarray, list[int]], tuple[np.ndarray, list[int]]]:
    return of_literal_procedure(reference.draw_grid_2025, 0.7, 4), of_library(full_cover=False)


@pytest.fixture(scope="module")
def boxes() -> tuple[tuple[np.ndarray, list[int]], tuple[np.ndarray, list[int]]]:
    return of_literal_procedure(reference.draw_boxes_2023, (10, 40), 4), of_library(scheme="boxes")


@pytest.mark.parametrize("kind", ["grids", "boxes"])
@pytest.mark.parametrize("k", range(5))
def test_class_shares_are_distributed_as_in_the_publication(kind: str, k: int, request: pytest.FixtureRequest) -> None:
    (expected, _), (shares, _) = request.getfixturevalue(kind)
    gap = reference.largest_gap(expected[:, k].tolist(), shares[:, k].tolist())
    assert gap < reference.gap_by_chance(DRAWS, DRAWS)


@pytest.mark.parametrize("kind", ["grids", "boxes"])
def test_numbers_of_blocks_are_distributed_as_in_the_publication(kind: str, request: pytest.FixtureRequest) -> None:
    (_, expected), (_, counts) = request.getfixturevalue(kind)
    assert reference.largest_gap(expected, counts) < reference.gap_by_chance(DRAWS, DRAWS)


@pytest.mark.parametrize("kind", ["grids", "boxes"])
def test_mean_shares_agree_with_the_publication_within_their_error(kind: str, request: pytest.FixtureRequest) -> None:
    (expected, _), (shares, _) = request.getfixturevalue(kind)
    error = np.sqrt((expected.var(axis=0) + shares.var(axis=0)) / DRAWS)
    assert (np.abs(expected.mean(axis=0) - shares.mean(axis=0)) < 4 * error).all()


def test_a_border_voxel_is_fused_as_often_as_in_the_publication() -> None:
    """In a corner: 2023 puts centres anywhere; some later code only takes boxes that fit inside."""
    rng = random.Random(3)
    expected = np.mean(
        [reference.draw_boxes_2023(rng, SMALL, BLOCKS, (10, 40), 4)[0][0, 0, 0] > 0 for _ in range(2000)]
    )
    chosen = make(size_voxels=BLOCKS, scheme="boxes")
    drawn = [draw_layout(np.random.default_rng([8, i]), SMALL, chosen) for i in range(2000)]
    found = np.mean([(layout.lower == 0).all(axis=1).any() for layout in drawn])
    assert found > 0
    assert abs(found - expected) < 4 * math.sqrt(2 * expected * (1 - expected) / 2000)


def test_reference_procedures_agree_with_each_other_where_no_block_is_cut() -> None:
    """The oracle of the covering grid and that of 2025 are one and the same for a block size of one voxel."""
    maps = [
        draw(random.Random(5), (4, 5, 6), [(1, 1)] * 3, 0.7, 4)[0]
        for draw in (reference.draw_grid_2025, reference.draw_grid_covering)
    ]
    assert [int((m > 0).sum()) for m in maps] == [math.floor(120 * 0.7)] * 2


def test_the_sides_of_blocks_are_drawn_independently_for_each_axis() -> None:
    chosen = make(preset="reference-2025")
    drawn = np.array(
        [
            [int(rows[1]) for rows in draw_layout(np.random.default_rng(i), (64, 128, 128), chosen).runs]
            for i in range(400)
        ]
    )
    for a, b in itertools.combinations(range(3), 2):
        assert abs(np.corrcoef(drawn[:, a], drawn[:, b])[0, 1]) < 4 / math.sqrt(400)
