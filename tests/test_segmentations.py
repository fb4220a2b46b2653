"""Label maps are told from scans by their voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnunet_volf.phantoms import make_phantom
from nnunet_volf.preprocessing.refusals import Refused
from nnunet_volf.preprocessing.segmentations import check_is_scan

SHAPE = (20, 40, 40)


def phantom(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images, labels = make_phantom(np.random.default_rng(seed), SHAPE)
    return images[0], labels


def regions(count: int) -> np.ndarray:
    """Label a volume by blocks of 5 x 10 x 10 voxels, as many labels as wanted."""
    blocks = np.arange(4 * 4 * 4).reshape(4, 4, 4) % count
    return blocks.repeat(5, 0).repeat(10, 1).repeat(10, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_label_maps_are_refused_whatever_their_type(dtype: Any) -> None:
    with pytest.raises(Refused, match="It looks like a segmentation: 3 different whole numbers") as refused:
        check_is_scan(phantom()[1].astype(dtype))
    assert refused.value.kind == "labels"
    assert "--channels 'CT=ct.nii.gz'" in refused.value.advice


def test_many_labels_are_refused_because_they_hardly_change() -> None:
    assert len(np.unique(regions(60))) > 16
    with pytest.raises(Refused, match="60 different whole numbers in its middle, and 9"):
        check_is_scan(np.tile(regions(60), (1, 1, 4)))


@pytest.mark.parametrize("bits", [8, 12])
def test_scans_with_few_bits_pass(bits: int) -> None:
    image, _ = phantom()
    scaled = (image - image.min()) / np.ptp(image) * (2**bits - 1)
    check_is_scan(scaled.astype(np.uint16))


def test_a_scan_that_is_masked_to_a_constant_background_passes() -> None:
    image, labels = phantom()
    check_is_scan(np.where(labels == 1, image.astype(np.int16), 0))


def test_fractions_are_no_labels() -> None:
    check_is_scan(regions(10).astype(np.float32) + 0.5)


def test_the_middle_is_looked_at_also_of_thick_slices_and_of_volumes_of_one_block() -> None:
    large = np.zeros((3, 1100, 1100), np.int16)  # a slice of more voxels than are looked at
    large[1] = np.random.default_rng(0).integers(-1000, 1000, large[1].shape)
    check_is_scan(large)
    with pytest.raises(Refused):
        check_is_scan(np.roll(large, 1, axis=0) * 0 + 7)
