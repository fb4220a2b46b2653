"""Pictures of test cases: the right slice, the right side up, outlines where the voxels end."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

from nnunet_volf.benchmark.report.overlays import COLOURS, LONGEST_SIDE, draw_overlay, find_file
from nnunet_volf.benchmark.report.pictures import choose


def write(path: Path, voxels: NDArray[np.generic], spacing: Sequence[float], direction: Sequence[float] = ()) -> Path:
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing(list(spacing))
    if direction:
        image.SetDirection(list(direction))
    SimpleITK.WriteImage(image, str(path))
    return path


def pixels(picture: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))


def where(picture: str, colour: str) -> NDArray[np.intp]:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere((pixels(picture) == wanted).all(axis=-1))


def block(shape: Sequence[int], *ends: tuple[int, int], value: int = 1) -> NDArray[np.uint8]:
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(*end) for end in ends)] = value
    return labels


def test_the_slice_with_the_most_labelled_voxels_is_shown(tmp_path: Path) -> None:
    labels = block((9, 30, 30), (2, 7), (10, 14), (10, 14))
    labels[5, 8:20, 8:20] = 1
    shown = draw_overlay(write(tmp_path / "a.nii.gz", labels, (1, 1, 1)), None, {}, ["1"])
    assert shown.where == "axial slice 6 of 9"


@pytest.mark.parametrize(
    ("spacing", "plane"), [((1, 1, 5), "axial"), ((1, 5, 1), "coronal"), ((5, 1, 1), "sagittal"), ((1, 1, 1), "axial")]
)
def test_the_plane_is_the_one_with_the_finest_pixels(spacing: Sequence[float], plane: str, tmp_path: Path) -> None:
    labels = block((12, 12, 12), (3, 9), (3, 9), (3, 9))
    assert draw_overlay(write(tmp_path / "a.nrrd", labels, spacing), None, {}, ["1"]).where.startswith(plane)


def test_pixels_are_square_millimetres(tmp_path: Path) -> None:
    labels = block((3, 40, 40), (1, 2), (0, 40), (0, 40))
    shown = draw_overlay(write(tmp_path / "a.nii.gz", labels, (1, 2, 9)), None, {}, ["1"])
    height, width, _ = pixels(shown.tiles[0].picture).shape
    assert (height, width) == (LONGEST_SIDE, LONGEST_SIDE // 2)


@pytest.mark.parametrize("flipped", [False, True])
def test_patients_lie_as_radiologists_look_at_them_however_they_are_stored(flipped: bool, tmp_path: Path) -> None:
    labels = block((3, 40, 40), (1, 2), (2, 38), (2, 38), value=1)
    labels[1, 4:10, 30:36] = 2  # in front, and on the patient's left: above and on the right
    direction = [-1, 0, 0, 0, -1, 0, 0, 0, 1] if flipped else [1, 0, 0, 0, 1, 0, 0, 0, 1]
    stored = labels[:, ::-1, ::-1].copy() if flipped else labels
    shown = draw_overlay(write(tmp_path / "a.nii.gz", stored, (1, 1, 5), direction), None, {}, ["1", "2"])
    rows, columns = where(shown.tiles[0].picture, COLOURS[1]).mean(axis=0) / LONGEST_SIDE
    assert (rows, columns) == (pytest.approx(0.18, abs=0.05), pytest.approx(0.82, abs=0.05))


def test_the_head_is_at_the_top(tmp_path: Path) -> None:
    labels = block((40, 3, 40), (2, 38), (1, 2), (2, 38))
    labels[30:36, 1, 4:10] = 2  # towards the head
    shown = draw_overlay(write(tmp_path / "a.nii.gz", labels, (1, 5, 1)), None, {}, ["1", "2"])
    assert where(shown.tiles[0].picture, COLOURS[1]).mean(axis=0)[0] < 0.3 * LONGEST_SIDE


def test_outlines_lie_on_the_borders_of_the_voxels(tmp_path: Path) -> None:
    labels = block((1, 30, 30), (0, 1), (0, 30), (0, 30), value=2)
    labels[0, 10:20, 5:25] = 1
    shown = draw_overlay(write(tmp_path / "a.nrrd", labels, (1, 1, 5)), None, {}, ["1"])
    found = where(shown.tiles[0].picture, COLOURS[0])
    scale = LONGEST_SIDE // 30
    assert found.min(axis=0).tolist() == [10 * scale, 5 * scale]
    assert found.max(axis=0).tolist() == [20 * scale - 1, 25 * scale - 1]
    inside = (found > [10 * scale + 5, 5 * scale + 5]) & (found < [20 * scale - 6, 25 * scale - 6])
    assert not inside.all(axis=1).any()


def test_each_arm_is_drawn_beside_the_truth_and_those_without_a_prediction_are_named(tmp_path: Path) -> None:
    labels = block((3, 30, 30), (1, 2), (8, 20), (8, 20))
    truth = write(tmp_path / "truth.nii.gz", labels, (1, 1, 5))
    image = write(tmp_path / "image.nii.gz", np.random.default_rng(0).normal(size=(3, 30, 30)), (1, 1, 5))
    found = write(tmp_path / "found.nii.gz", np.roll(labels, 3, axis=2), (1, 1, 5))
    other = write(tmp_path / "other.nii.gz", labels[:, :20], (1, 1, 5))
    shown = draw_overlay(truth, image, {"volf": found, "stock": None, "odd": other}, ["1"])
    assert [tile.title for tile in shown.tiles] == ["image", "truth", "volf", "stock", "odd"]
    assert [tile.note for tile in shown.tiles[3:]] == ["no prediction", "another size than the truth"]
    assert not shown.blank
    volf, true = (where(tile.picture, COLOURS[0]).mean(axis=0)[1] for tile in (shown.tiles[2], shown.tiles[1]))
    white = where(shown.tiles[2].picture, "#ffffff").mean(axis=0)[1]
    assert white < volf
    assert true < volf
    assert len({pixels(tile.picture).shape for tile in shown.tiles[:3]}) == 1


def test_without_an_image_outlines_are_drawn_over_black_and_that_is_said(tmp_path: Path) -> None:
    truth = write(tmp_path / "a.nii.gz", block((3, 30, 30), (1, 2), (8, 20), (8, 20)), (1, 1, 5))
    shown = draw_overlay(truth, None, {}, ["1"])
    assert shown.blank
    assert [tile.title for tile in shown.tiles] == ["truth"]
    colours = {tuple(colour) for colour in pixels(shown.tiles[0].picture).reshape(-1, 3).tolist()}
    assert colours == {(0, 0, 0), (0xF0, 0xE4, 0x42)}


def test_an_image_of_another_size_than_its_labels_is_not_drawn_under_them(tmp_path: Path) -> None:
    truth = write(tmp_path / "a.nii.gz", block((3, 30, 30), (1, 2), (8, 20), (8, 20)), (1, 1, 5))
    image = write(tmp_path / "image.nii.gz", np.ones((3, 20, 30)), (1, 1, 5))
    assert draw_overlay(truth, image, {}, ["1"]).blank


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_are_drawn_too(channels: int, tmp_path: Path) -> None:
    Image.fromarray(block((40, 60), (10, 30), (10, 30))).save(tmp_path / "truth.png")
    photograph = np.random.default_rng(0).integers(0, 255, (40, 60, channels), np.uint8).squeeze()
    Image.fromarray(photograph).save(tmp_path / "image.png")
    shown = draw_overlay(tmp_path / "truth.png", tmp_path / "image.png", {"volf": tmp_path / "truth.png"}, ["1"])
    assert shown.where == "the image"
    assert [bool(tile.picture) for tile in shown.tiles] == [True] * 3


@pytest.mark.parametrize("value", [0, 7])
def test_a_case_without_labels_or_a_flat_image_has_pictures(value: int, tmp_path: Path) -> None:
    truth = write(tmp_path / "a.nii.gz", np.zeros((4, 20, 20), np.uint8), (1, 1, 2))
    image = write(tmp_path / "image.nii.gz", np.full((4, 20, 20), value, np.int16), (1, 1, 2))
    shown = draw_overlay(truth, image, {"volf": truth}, ["1"])
    assert shown.where == "axial slice 3 of 4"
    assert pixels(shown.tiles[0].picture).shape == (LONGEST_SIDE, LONGEST_SIDE, 3)


def test_a_region_of_several_labels_has_one_outline(tmp_path: Path) -> None:
    labels = block((1, 30, 30), (0, 1), (5, 25), (5, 15))
    labels[0, 5:25, 15:25] = 2
    truth = write(tmp_path / "a.nrrd", labels, (1, 1, 5))
    together = where(draw_overlay(truth, None, {}, ["(1, 2)"]).tiles[0].picture, COLOURS[0])
    middle = together[:, 1].min() / 2 + together[:, 1].max() / 2
    rows = together[np.abs(together[:, 1] - middle) < 2][:, 0]
    assert len(set(rows.tolist())) == 6  # the upper and the lower line, and none between


def test_pictures_are_small_and_the_same_each_time(tmp_path: Path) -> None:
    truth = write(tmp_path / "a.nii.gz", block((3, 200, 200), (1, 2), (20, 180), (20, 180)), (1, 1, 5))
    noise = np.random.default_rng(0).normal(size=(3, 200, 200))
    image = write(tmp_path / "image.nii.gz", noise, (1, 1, 5))
    first = draw_overlay(truth, image, {}, ["1"])
    assert draw_overlay(truth, image, {}, ["1"]) == first
    assert all(len(tile.picture) < 120_000 for tile in first.tiles)


def test_a_damaged_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(RuntimeError, match=r"a\.nii\.gz"):
        draw_overlay(tmp_path / "a.nii.gz", None, {}, ["1"])


def test_a_file_is_found_by_its_case_whatever_its_ending(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.b.nii.gz", "ab.nii.gz", "a_0000.png"):
        (tmp_path / name).touch()
    (tmp_path / "a.d").mkdir()
    assert find_file(tmp_path, "a") == tmp_path / "a.nii.gz"
    assert find_file(tmp_path, "a.b") == tmp_path / "a.b.nii.gz"
    assert find_file(tmp_path, "a_0000") == tmp_path / "a_0000.png"
    assert find_file(tmp_path, "c") is None
    assert find_file(tmp_path / "gone", "a") is None
    assert find_file(None, "a") is None


@pytest.mark.parametrize(
    ("differences", "chosen"),
    [
        ({"a": 0.1, "b": -0.2, "c": 0.3, "d": 0.0, "e": 0.0}, [("Best", "c"), ("Median", "d"), ("Worst", "b")]),
        ({"a": 0.1, "b": 0.2}, [("Best", "b"), ("Worst", "a")]),
        ({"a": 0.1}, [("Best", "a")]),
    ],
)
def test_the_best_the_median_and_the_worst_case_are_chosen_once_each(
    differences: dict[str, float], chosen: list[tuple[str, str]]
) -> None:
    assert choose(differences) == chosen
