"""Small pictures: which plane they show, which way up, how large, and that they hold nothing else."""

from __future__ import annotations

import io
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from nnunet_volf.preprocessing.thumbnails import LONGEST_SIDE, thumbnail
from nnunet_volf.preprocessing.volumes import Volume

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def pixels(png: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def corner_marked(shape: tuple[int, int, int], corner: tuple[slice, slice, slice]) -> NDArray[np.int16]:
    """A dark volume (z, y, x) with one bright region."""
    voxels = np.zeros(shape, np.int16)
    voxels[corner] = 1000
    return voxels


def bright_side(picture: NDArray[np.int64]) -> tuple[str, str]:
    half_rows, half_columns = picture.shape[0] // 2, picture.shape[1] // 2
    vertical = "top" if picture[:half_rows].mean() > picture[half_rows:].mean() else "bottom"
    horizontal = "left" if picture[:, :half_columns].mean() > picture[:, half_columns:].mean() else "right"
    return vertical, horizontal


def test_the_plane_across_the_coarsest_axis_is_shown() -> None:
    shape = (20, 30, 40)  # z, y, x
    voxels = np.random.default_rng(0).normal(size=shape)
    for spacing, (height, width) in {
        (1.0, 1.0, 5.0): (30, 40),
        (1.0, 5.0, 1.0): (20, 40),
        (5.0, 1.0, 1.0): (20, 30),
    }.items():
        picture = pixels(thumbnail(Volume(voxels, spacing)))
        assert picture.shape[0] / picture.shape[1] == pytest.approx(height / width, abs=0.01)


def test_an_isotropic_volume_is_shown_in_the_axial_plane_however_it_is_stored() -> None:
    # The stored first axis (x) runs along the patient's height, y towards the left, z towards the back.
    direction = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
    voxels = np.random.default_rng(0).normal(size=(20, 40, 60))  # back 20, left 40, height 60
    picture = pixels(thumbnail(Volume(voxels, (1.0, 1.0, 1.0), direction=direction)))
    assert picture.shape == (56, 112)


def test_among_equally_coarse_axes_the_axial_plane_comes_first_and_almost_equal_counts() -> None:
    voxels = np.random.default_rng(0).normal(size=(20, 30, 40))
    picture = pixels(thumbnail(Volume(voxels, (1.0, 1.1, 1.0))))
    assert picture.shape[0] / picture.shape[1] == pytest.approx(30 * 1.1 / 40, abs=0.01)


def test_patient_left_is_on_the_right_and_the_back_at_the_bottom() -> None:
    left_back = corner_marked((9, 20, 20), np.s_[:, 10:, 10:])  # ITK's x grows to the left, y to the back
    assert bright_side(pixels(thumbnail(Volume(left_back, (1.0, 1.0, 1.0))))) == ("bottom", "right")


def test_a_volume_stored_flipped_looks_the_same() -> None:
    voxels = np.random.default_rng(1).normal(size=(9, 20, 24)).astype(np.float32)
    flipped = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    plain = thumbnail(Volume(voxels, (1.0, 1.0, 1.0)))
    assert thumbnail(Volume(voxels[:, ::-1, ::-1], (1.0, 1.0, 1.0), direction=flipped)) == plain


@pytest.mark.parametrize("spacing", [(1.0, 5.0, 1.0), (5.0, 1.0, 1.0)])
def test_the_head_is_at_the_top_of_coronal_and_sagittal_planes(spacing: tuple[float, float, float]) -> None:
    upper = corner_marked((20, 20, 20), np.s_[10:, :, :])
    assert bright_side(pixels(thumbnail(Volume(upper, spacing))))[0] == "top"


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 9.0)] * 3),
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3),
)
def test_the_aspect_is_that_of_the_patient_for_any_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    order: list[int],
    signs: tuple[float, float, float],
) -> None:
    direction = np.zeros((3, 3))
    direction[order, range(3)] = signs
    voxels = np.random.default_rng(0).integers(0, 99, size=shape)
    picture = pixels(thumbnail(Volume(voxels, spacing, direction=tuple(direction.ravel()))))
    assert max(picture.shape) == LONGEST_SIDE
    millimetres = [n * s for n, s in zip(shape[::-1], spacing, strict=True)]
    pairs = permutations(millimetres, 2)
    sides = {tuple(max(1, round(side * LONGEST_SIDE / max(pair))) for side in pair) for pair in pairs}
    assert tuple(picture.shape) in sides


def test_extremes_do_not_darken_the_rest() -> None:
    voxels = np.random.default_rng(0).normal(100, 10, size=(3, 100, 100))
    voxels[1, 50, 50] = 1e6
    assert 100 < np.median(pixels(thumbnail(Volume(voxels, (1.0, 1.0, 3.0))))) < 160


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float64])
def test_every_type_of_voxel_can_be_shown(dtype: type) -> None:
    voxels = np.arange(4 * 10 * 10).reshape(4, 10, 10).astype(dtype)
    assert pixels(thumbnail(Volume(voxels, (1.0, 1.0, 1.0)))).max() == 255


def test_a_constant_middle_slice_is_black_and_no_error() -> None:
    assert pixels(thumbnail(Volume(np.full((3, 8, 8), 7.0), (1.0, 1.0, 1.0)))).max() == 0


def test_the_picture_is_small_holds_no_metadata_and_is_the_same_every_time() -> None:
    ramp = np.add.outer(np.add.outer(np.arange(40.0), np.arange(300.0)), np.arange(300.0))
    volume = Volume(ramp + np.random.default_rng(0).normal(0, 9, ramp.shape), (0.7, 0.7, 3.0))
    png = thumbnail(volume)
    assert png == thumbnail(volume)
    assert len(png) < 10_000
    assert Image.open(io.BytesIO(png)).info == {}
