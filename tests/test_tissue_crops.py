"""Crops are cut where there is something to see, when preprocessing has stored where that is."""

from __future__ import annotations

import re
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretexts import given_for

from nnunet_volf.augment import draw_start, draw_window
from nnunet_volf.case_notes import LOCATIONS_KEY, as_metadata
from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.damaged_cases import DamagedCase
from nnunet_volf.pretext.volf.pretext import VolumeFusion
from nnunet_volf.pretext.volf.settings import VolFSettings

VOLUME = (24, 40, 40)
CORNER = (slice(18, 24), slice(30, 40), slice(0, 10))  # all the tissue there is


@pytest.fixture
def mostly_air(tmp_path: Path) -> UnlabeledCases:
    data = np.full((1, *VOLUME), -1.0, dtype=np.float32)
    data[(0, *CORNER)] = np.random.default_rng(0).normal(size=(6, 10, 10))
    locations = np.argwhere(data[0] != -1).astype(np.uint16)
    notes = as_metadata({LOCATIONS_KEY: locations.tobytes()})
    blosc2.asarray(data, urlpath=str(tmp_path / "case.b2nd"), mode="w", **notes)
    return UnlabeledCases(tmp_path, ["case"])


def share_with_tissue(cases: UnlabeledCases, **values: object) -> float:
    settings = VolFSettings.from_mapping({"scale": [1.0, 1.0], **values})
    sampler = VolumeFusion(settings, given_for((12, 12, 12))).sampler()
    case, rng = cases.open("case"), np.random.default_rng(0)
    crops = [case.read(sampler._draw_window(rng, case, None)) for _ in range(200)]
    return float(np.mean([bool((crop != -1).any()) for crop in crops]))


@pytest.mark.parametrize("augmentation", ["volf", "none"])
def test_every_crop_shows_tissue_where_it_is_known(mostly_air: UnlabeledCases, augmentation: str) -> None:
    assert share_with_tissue(mostly_air, augmentation=augmentation) == 1
    assert share_with_tissue(mostly_air, augmentation=augmentation, crops="anywhere") < 0.5


def test_without_stored_tissue_crops_come_from_anywhere(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.zeros((1, *VOLUME), dtype=np.float32))
    blosc2.asarray(np.zeros((1, *VOLUME), dtype=np.float32), urlpath=str(tmp_path / "stock.b2nd"), mode="w")
    for name in ("plain", "stock"):
        assert UnlabeledCases(tmp_path, [name]).open(name).draw_tissue(np.random.default_rng(0)) is None


def test_tissue_voxels_are_drawn_evenly(mostly_air: UnlabeledCases) -> None:
    case, rng = mostly_air.open("case"), np.random.default_rng(1)
    drawn = np.array([case.draw_tissue(rng) for _ in range(600)])
    for axis, part in enumerate(CORNER):
        assert drawn[:, axis].min() == part.start
        assert drawn[:, axis].max() == part.stop - 1
    assert np.ptp(np.bincount(drawn[:, 0])[18:24]) < 60  # 100 expected of each; six standard deviations


axis = st.integers(1, 30).flatmap(lambda side: st.tuples(st.just(side), st.integers(1, 40), st.integers(0, side - 1)))


@given(axes=st.lists(axis, min_size=3, max_size=3), seed=st.integers(0, 1000))
def test_a_crop_around_a_voxel_holds_it_and_stays_in_the_volume(axes: list[tuple[int, int, int]], seed: int) -> None:
    volume, patch, voxel = zip(*axes, strict=True)
    window = draw_window(np.random.default_rng(seed), volume, patch, (0.7, 1.5), voxel)
    for start, size, side, at in zip(window.start, window.size, volume, voxel, strict=True):
        assert 0 <= start <= at < start + size <= side


def test_crops_lie_evenly_around_a_voxel() -> None:
    rng = np.random.default_rng(0)
    starts = [draw_start(rng, [(0, 90)], [10], [50])[0] for _ in range(2000)]
    counts = np.bincount(starts, minlength=91)
    assert counts[41:51].min() > 130  # 200 expected of each of the ten
    assert counts[41:51].sum() == 2000


def test_tissue_outside_the_volume_is_damage(tmp_path: Path) -> None:
    notes = as_metadata({LOCATIONS_KEY: np.array([[3, 8, 2]], np.uint16).tobytes()})
    blosc2.asarray(np.ones((1, 8, 8, 8), np.float32), urlpath=str(tmp_path / "case.b2nd"), **notes)
    with pytest.raises(DamagedCase, match=re.escape("notes tissue at (3, 8, 2), outside its (8, 8, 8) voxels.")):
        UnlabeledCases(tmp_path, ["case"]).open("case").draw_tissue(np.random.default_rng(0))
