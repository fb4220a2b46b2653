"""The hash of an image's content: blind to how it is stored, and to nothing else."""

from __future__ import annotations

import hashlib
import tracemalloc
from itertools import permutations, product
from pathlib import Path
from typing import Any

import archives
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nnunet_volf.preprocessing import content
from nnunet_volf.preprocessing.content import content_hash
from nnunet_volf.preprocessing.orientation import flipped, nearest_axes, orientation_code, reoriented
from nnunet_volf.preprocessing.volumes import Volume, read_volume

quick = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
STORAGES = list(product(permutations(range(3)), product((1, -1), repeat=3)))
FORTY_FIVE = float(np.sqrt(0.5))


def volume(seed: int = 0, shape: tuple[int, ...] = (4, 5, 6), direction: Any = None) -> Volume:
    voxels = np.random.default_rng(seed).integers(-1000, 1000, size=shape).astype(np.int16)
    matrix = np.eye(3) if direction is None else np.asarray(direction)
    return Volume(voxels, (1.0, 1.5, 2.0), direction=tuple(matrix.ravel().tolist()))


def stored_otherwise(image: Volume, axes: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same image with image axis axes[i], run through in the sense signs[i], as its i-th axis."""
    columns = np.reshape(image.direction, (3, 3))[:, axes] * signs
    by_xyz = image.voxels.transpose(2, 1, 0).transpose(axes)[tuple(slice(None, None, s) for s in signs)]
    spacing = tuple(image.spacing[a] for a in axes)
    return Volume(by_xyz.transpose(2, 1, 0), spacing, direction=tuple(columns.ravel().tolist()))  # type: ignore[arg-type]


def rotation(seed: int) -> Any:
    return Rotation.random(random_state=seed).as_matrix()


# -------------------------------------------------------------------------------------------------- equal


def test_the_hash_is_that_of_the_shape_and_the_values_of_the_image_as_itk_lays_it() -> None:
    image = volume()
    digest = hashlib.blake2b(digest_size=16)
    digest.update(b"(4, 5, 6)")
    for plane in image.voxels:
        for row in plane:
            for value in row:
                digest.update(np.float32(value).astype("<f4").tobytes())
    assert content_hash(image) == digest.hexdigest()
    assert len(content_hash(image)) == 32


@pytest.mark.parametrize(("axes", "signs"), STORAGES)
@pytest.mark.parametrize("turned", [None, 0, 1, 2, 3])
def test_none_of_the_48_storages_makes_a_difference(
    axes: tuple[int, ...], signs: tuple[int, ...], turned: int | None
) -> None:
    image = volume(direction=None if turned is None else rotation(turned))
    assert content_hash(stored_otherwise(image, axes, signs)) == content_hash(image)


@pytest.mark.parametrize("axis", range(3))
def test_a_tie_between_two_axes_is_decided_alike_for_every_storage(axis: int) -> None:
    """At 45 degrees about one axis, the others are as near to one world axis as to the other."""
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = matrix[j, i] = FORTY_FIVE
    matrix[i, j] = -FORTY_FIVE
    image = volume(direction=matrix)
    hashes = {content_hash(stored_otherwise(image, *storage)) for storage in STORAGES}
    assert len(hashes) == 1


@given(SEEDS, st.sampled_from(STORAGES))
@quick
def test_rounding_of_the_header_makes_no_difference(seed: int, storage: Any) -> None:
    image = volume(seed, direction=rotation(seed))
    other = stored_otherwise(image, *storage)
    rounded = np.asarray(other.direction) + np.random.default_rng(seed).uniform(-1e-6, 1e-6, 9)
    other = Volume(other.voxels, other.spacing, direction=tuple(rounded.tolist()))
    assert content_hash(other) == content_hash(image)


@pytest.mark.parametrize("kind", ["<i2", ">i2", "i4", "i8", "f4", ">f4", "f8"])
def test_the_number_type_makes_no_difference(kind: str) -> None:
    image = volume()
    assert content_hash(Volume(image.voxels.astype(kind), image.spacing)) == content_hash(image)


def test_zeros_have_no_sign() -> None:
    voxels = volume().voxels.astype(np.float32)
    voxels[1, 2, 3] = 0.0
    negative = voxels.copy()
    negative[1, 2, 3] = -0.0
    assert content_hash(Volume(voxels, (1, 1, 1))) == content_hash(Volume(negative, (1, 1, 1)))
    assert np.signbit(negative[1, 2, 3])  # and the image is left as it was


def test_spacing_and_origin_make_no_difference() -> None:
    image = volume()
    assert content_hash(Volume(image.voxels, (9.0, 9.0, 9.0), origin=(1, 2, 3))) == content_hash(image)


def test_the_container_makes_no_difference(tmp_path: Path) -> None:
    hashes = set()
    image = volume(shape=(9, 10, 11))
    for ending in (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"):
        path = tmp_path / f"image{ending}"
        archives.write_itk(path, image.voxels)
        hashes.add(content_hash(read_volume(path)))
    archives.write_itk(tmp_path / "float.nrrd", image.voxels.astype(np.float32))
    hashes.add(content_hash(read_volume(tmp_path / "float.nrrd")))
    loaded = nibabel.load(tmp_path / "image.nii")
    for code in ("RAS", "LPS", "PIR", "SAL"):
        turned = loaded.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.io_orientation(loaded.affine), nibabel.orientations.axcodes2ornt(tuple(code))
            )
        )
        nibabel.save(turned, tmp_path / f"{code}.nii.gz")
        hashes.add(content_hash(read_volume(tmp_path / f"{code}.nii.gz")))
    assert hashes == {content_hash(image)}


@pytest.mark.parametrize("slab", [1, 7, 30, 31, 1 << 22])
def test_the_size_of_a_slab_makes_no_difference(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = content_hash(volume())
    monkeypatch.setattr(content, "SLAB_VOXELS", slab)
    assert content_hash(volume()) == expected


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_no_float_copy_of_the_whole_image_is_made(axes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "SLAB_VOXELS", 1 << 14)
    image = stored_otherwise(volume(shape=(100, 100, 100)), axes, (1, -1, 1))
    tracemalloc.start()
    try:
        content_hash(image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 4 * (1 << 14)  # a float32 copy would take 4 MB


# ---------------------------------------------------------------------------------------------- different


@given(SEEDS)
@quick
def test_one_changed_voxel_changes_the_hash(seed: int) -> None:
    image = volume(seed)
    changed = image.voxels.copy()
    changed[tuple(np.random.default_rng(seed).integers(0, changed.shape))] += 1
    assert content_hash(Volume(changed, image.spacing)) != content_hash(image)


@given(SEEDS)
@quick
def test_two_voxels_changing_places_change_the_hash(seed: int) -> None:
    voxels = np.random.default_rng(seed).permutation(120).reshape(4, 5, 6).astype(np.int16)
    swapped = voxels.copy().ravel()
    i, j = np.random.default_rng(seed + 1).choice(120, 2, replace=False)
    swapped[[i, j]] = swapped[[j, i]]
    assert content_hash(Volume(swapped.reshape(4, 5, 6), (1, 1, 1))) != content_hash(Volume(voxels, (1, 1, 1)))


def test_another_shape_of_the_same_numbers_changes_the_hash() -> None:
    voxels = volume().voxels
    shapes = [voxels.reshape(shape) for shape in ((4, 5, 6), (5, 4, 6), (4, 6, 5), (120, 1, 1), (2, 10, 6))]
    assert len({content_hash(Volume(v, (1, 1, 1))) for v in shapes}) == len(shapes)


def test_a_flip_that_the_direction_does_not_tell_changes_the_hash() -> None:
    image = volume()
    assert content_hash(Volume(image.voxels[:, :, ::-1], image.spacing)) != content_hash(image)


# --------------------------------------------------------------------------------------------- orientation


@given(SEEDS)
@quick
def test_codes_are_those_of_nibabel(seed: int) -> None:
    matrix = rotation(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ matrix
    if np.abs(matrix).max(axis=0).min() > 0.75:  # each axis is clearly nearest to one; else both may choose freely
        assert orientation_code(matrix.ravel()) == "".join(nibabel.aff2axcodes(affine))


def test_the_code_of_itks_identity_is_lps() -> None:
    assert orientation_code(np.eye(3).ravel()) == "LPS"


@given(SEEDS, st.sets(st.integers(0, 2)))
@quick
def test_the_code_of_a_flipped_image_is_that_of_its_header(seed: int, axes: set[int]) -> None:
    matrix = rotation(seed)
    turned = matrix * [-1 if 2 - column in axes else 1 for column in range(3)]  # columns are the stored axes x, y and z
    assert flipped(orientation_code(matrix.ravel()), sorted(axes)) == orientation_code(turned.ravel())


@given(SEEDS, st.sampled_from(STORAGES))
@quick
def test_reoriented_axes_run_up_back_and_left(seed: int, storage: Any) -> None:
    """The first voxel's neighbours lie where the axes of the view say."""
    image = stored_otherwise(volume(seed, direction=rotation(seed)), *storage)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in image.voxels.shape), indexing="ij"), axis=-1)[..., ::-1]
    places = index @ np.reshape(image.direction, (3, 3)).T  # of every voxel in the world, at a spacing of 1
    views = [reoriented(Volume(places[..., axis], image.spacing, direction=image.direction)) for axis in range(3)]
    steps = np.array([[np.diff(view, axis=2 - a).mean() for a in range(3)] for view in views])  # world axis x view axis
    assert (np.diag(steps) > 0).all()
    assert np.trace(steps) >= max(np.abs(steps)[[0, 1, 2], list(p)].sum() for p in permutations(range(3))) - 0.02


def test_every_axis_is_used_once() -> None:
    for seed in range(200):
        assert {axis for axis, _ in nearest_axes(rotation(seed).ravel())} == {0, 1, 2}
