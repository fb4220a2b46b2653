"""Channels brought onto the grid of the first: what is true in space stays true."""

from __future__ import annotations

from pathlib import Path

import archives
import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from nnunet_volf.preprocessing.alignment import AlignTask, align, onto_grid
from nnunet_volf.preprocessing.checks import audit
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.preprocessing.volumes import Volume, read_volume

SLOPE, OFFSET = np.array([0.7, -1.3, 2.1]), 40.0


def rotation(degrees: float) -> NDArray[np.float64]:
    """About an axis that is none of the world's."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def points(volume: Volume) -> NDArray[np.float64]:
    """Where each voxel (z, y, x) lies, by ITK's definition, written out."""
    z, y, x = np.indices(volume.voxels.shape)
    steps = np.stack([x, y, z], axis=-1) * np.array(volume.spacing)
    return np.asarray(steps @ np.reshape(volume.direction, (3, 3)).T + np.array(volume.origin))


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], origin: tuple[float, float, float],
         degrees: float = 0.0) -> Volume:  # fmt: skip
    return Volume(np.zeros(shape, np.float32), spacing, origin, tuple(rotation(degrees).ravel().tolist()))


def ramp(on: Volume) -> Volume:
    """A linear function of space, which linear interpolation keeps as it is."""
    voxels = (points(on) @ SLOPE + OFFSET).astype(np.float32)
    return Volume(voxels, on.spacing, on.origin, on.direction)


LARGE = grid((24, 26, 28), (2.0, 2.5, 3.0), (-30.0, -30.0, -30.0), 10)


@pytest.mark.parametrize(
    "target",
    [
        grid((9, 10, 11), (1.0, 1.0, 1.0), (-5.0, 0.0, 5.0)),
        grid((9, 10, 11), (1.3, 0.8, 2.0), (-5.0, 0.0, 5.0), 35),
        grid((9, 10, 11), (1.0, 1.0, 1.0), (0.0, 0.0, 9.0), -120),
        LARGE,
    ],
)
def test_a_ramp_in_space_stays_the_same_ramp_on_any_grid_inside(target: Volume) -> None:
    moved = onto_grid(ramp(LARGE), target)
    assert moved.voxels.shape == target.voxels.shape
    assert (moved.spacing, moved.origin, moved.direction) == (target.spacing, target.origin, target.direction)
    np.testing.assert_allclose(moved.voxels, points(target) @ SLOPE + OFFSET, atol=1e-2)


def test_outside_of_it_a_channel_has_its_smallest_value() -> None:
    source = ramp(grid((10, 10, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    moved = onto_grid(source, grid((10, 10, 30), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    np.testing.assert_allclose(moved.voxels[..., :10], source.voxels, atol=1e-3)
    assert (moved.voxels[..., 11:] == source.voxels.min()).all()


def test_what_was_done_is_noted_after_what_was_known() -> None:
    source = ramp(LARGE)
    moved = onto_grid(Volume(source.voxels, source.spacing, source.origin, source.direction, ("known",)), LARGE)
    assert moved.notes[0] == "known"
    assert "resampled from (24, 26, 28) to (24, 26, 28)" in moved.notes[1]


def test_channels_that_do_not_overlap_are_refused() -> None:
    far = grid((9, 9, 9), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0))
    with pytest.raises(Refused, match="do not overlap") as refused:
        onto_grid(ramp(LARGE), far)
    assert refused.value.kind == "grids"


@pytest.mark.parametrize("kind", ["<i2", ">i2", "<u1", ">f4", "<f8", ">f8", "<u4"])
def test_any_stored_type_is_resampled_by_value(kind: str, tmp_path: Path) -> None:
    voxels = np.arange(1000).reshape(10, 10, 10) % 200
    header = nibabel.Nifti1Header(endianness=kind[0])
    header.set_data_dtype(np.dtype(kind))
    nibabel.save(nibabel.Nifti1Image(voxels.T.astype(kind), np.eye(4), header), tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(onto_grid(volume, volume).voxels, voxels.astype(np.float32))


def test_the_first_channel_stays_and_the_others_are_written_onto_its_grid(tmp_path: Path) -> None:
    archives.write_itk(tmp_path / "t1.nrrd", archives.body(1))
    archives.write_nifti(tmp_path / "t2.nii.gz", archives.body(2, (20, 22, 24)), archives.affine((-0.9, -0.9, 1.7)))
    images = [described(tmp_path / "t1.nrrd"), described(tmp_path / "t2.nii.gz")]
    unchanged, changed = align(AlignTask.of(images, str(tmp_path / "converted")))
    assert unchanged == {}
    first, second = SimpleITK.ReadImage(str(tmp_path / "t1.nrrd")), SimpleITK.ReadImage(changed["path"])
    assert first.GetSize() == second.GetSize()
    np.testing.assert_allclose(second.GetSpacing(), first.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(second.GetOrigin(), first.GetOrigin(), atol=1e-5)
    assert changed["facts"]["shape"] == images[0]["facts"]["shape"]
    assert changed["facts"]["content"] == audit(read_volume(Path(changed["path"]))).content
    assert any("resampled" in note for note in changed["facts"]["notes"])


def test_a_task_changes_with_the_voxels_and_grids_of_its_images(tmp_path: Path) -> None:
    archives.write_itk(tmp_path / "t1.nrrd", archives.body(1))
    one = described(tmp_path / "t1.nrrd")
    moved = {**one, "grid": [1.0, *one["grid"][1:]]}
    other = {**one, "facts": {**one["facts"], "content": "another"}}
    tasks = [AlignTask.of([one, second], "c") for second in (one, moved, other)]
    assert len({task.key for task in tasks}) == 1
    assert len({task.signature for task in tasks}) == 3


def described(path: Path) -> dict[str, object]:
    volume = read_volume(path)
    return {"path": str(path), "facts": audit(volume).to_mapping(), "grid": [*volume.origin, *volume.direction]}
