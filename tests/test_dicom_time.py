"""Series of very many volumes count once, as the user says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicoms import phantom, write_series, write_time_series

from nnunet_volf.preprocessing.dicom_headers import read_header
from nnunet_volf.preprocessing.dicom_series import DicomPolicy, Series, group_series
from nnunet_volf.preprocessing.dicom_time import MOST_VOLUMES, by_time, load_together
from nnunet_volf.preprocessing.refusals import Refused

SHAPE = (6, 12, 10)


def series_of(folder: Path) -> list[Series]:
    series, left_out = group_series([read_header(path) for path in sorted(folder.rglob("*.dcm"))], DicomPolicy())
    assert not left_out
    return series


def write_points(folder: Path, count: int) -> list[np.ndarray]:
    volumes = [phantom(SHAPE, seed) for seed in range(count)]
    write_time_series(folder, volumes, "TemporalPositionIdentifier", list(range(1, count + 1)))
    return volumes


def test_a_few_volumes_of_a_series_are_a_case_each(tmp_path: Path) -> None:
    write_points(tmp_path, MOST_VOLUMES)
    groups, left_out = by_time(series_of(tmp_path), "refuse")
    assert [len(stacks) for stacks in groups] == [1] * MOST_VOLUMES
    assert left_out == []


def test_many_volumes_of_a_series_are_refused_once_and_cost_no_other_series(tmp_path: Path) -> None:
    write_points(tmp_path / "many", MOST_VOLUMES + 1)
    write_series(tmp_path / "one", phantom(SHAPE, 99))
    groups, left_out = by_time(series_of(tmp_path), "refuse")
    assert len(groups) == 1
    ((_, refused),) = left_out
    assert refused.kind == "dimensions"
    assert refused.reason == "It is a series of 9 volumes of one place, such as a dynamic or functional scan."
    assert refused.advice == "Take the first with --time first, or their mean with --time mean."


@pytest.mark.parametrize("time", ["first", "mean"])
def test_the_first_or_the_mean_is_taken(tmp_path: Path, time: str) -> None:
    volumes = write_points(tmp_path, 9)
    ((stacks),), _ = by_time(series_of(tmp_path), time)
    volume = load_together(stacks, DicomPolicy())
    expected = volumes[0] if time == "first" else np.mean(np.stack(volumes), axis=0)
    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-6)
    assert ("the mean of 9 time points" in volume.notes) == (time == "mean")


def test_time_points_of_different_sizes_have_no_mean(tmp_path: Path) -> None:
    write_series(tmp_path / "a", phantom(SHAPE, 1))
    write_series(tmp_path / "b", phantom((7, 12, 10), 2))
    with pytest.raises(Refused, match=r"2 time points have different sizes: \(\d, 12, 10\) and \(\d, 12, 10\)"):
        load_together(series_of(tmp_path), DicomPolicy())
