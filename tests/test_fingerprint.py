"""The fingerprint without labels against nnU-Net's own, given labels that mark all tissue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from conftest import NnUNetFolders
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from unlabeled import import_scans

from nnunet_volf.errors import DataError
from nnunet_volf.preprocessing.fingerprint import (
    VALUES,
    describe_values,
    fingerprint_like,
    look,
    sample_cases,
    take_fingerprint,
)
from nnunet_volf.preprocessing.imported import ImportedCase, ImportedDataset, imported_dataset

SHAPES = ((24, 40, 36), (28, 36, 44), (20, 44, 40))
SPACINGS = ((3.0, 0.8, 0.9), (2.5, 0.8, 0.7), (3.0, 1.0, 1.0))


def write(path: Path, voxels: np.ndarray, spacing: tuple[float, ...]) -> None:
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing(spacing[::-1])
    SimpleITK.WriteImage(image, str(path))


def scan(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid of two tissues in noisy air, zeros around it; and where the tissue is."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = sum(axis**2 for axis in axes)
    tissue = radius < 0.5
    voxels = np.where(radius < 0.2, 300.0 + 20 * seed, np.where(tissue, 150.0, 5.0)) + rng.normal(0, 4, shape)
    voxels[:3] = voxels[:, -4:] = voxels[:, :, :2] = 0
    return voxels.astype(np.float32), tissue & (voxels != 0)


@pytest.fixture
def archive(nnunet_folders: NnUNetFolders, tmp_path: Path) -> dict[str, Path]:
    """Import scans; returns where the label of each lies."""
    labels = {}
    (tmp_path / "scans").mkdir()
    (tmp_path / "labels").mkdir()
    for number, (shape, spacing) in enumerate(zip(SHAPES, SPACINGS, strict=True)):
        voxels, tissue = scan(number, shape)
        write(tmp_path / "scans" / f"{number}.nii.gz", voxels, spacing)
        labels[f"{number}.nii.gz"] = tmp_path / "labels" / f"{number}.nii.gz"
        write(labels[f"{number}.nii.gz"], tissue.astype(np.uint8), spacing)
    import_scans(tmp_path / "scans")
    return labels


def test_it_is_nnunets_where_labels_mark_all_tissue(archive: dict[str, Path]) -> None:
    dataset = imported_dataset("501")
    found = take_fingerprint(dataset, workers=0).to_mapping()
    theirs = [
        DatasetFingerprintExtractor.analyze_case(
            [str(case.images[0])], str(archive[case.images[0].name]), SimpleITKIO, VALUES
        )
        for case in dataset.cases
    ]
    assert [tuple(shape) for shape in found["shapes_after_crop"]] == [tuple(case[0]) for case in theirs]
    np.testing.assert_allclose(found["spacings"], [case[1] for case in theirs], rtol=1e-6)
    assert found["median_relative_size_after_cropping"] == np.median([case[4] for case in theirs])
    assert found["median_relative_size_after_cropping"] < 0.9, "cropping is part of what is compared"
    values = np.concatenate([case[2][0] for case in theirs])
    (own,) = found["foreground_intensity_properties_per_channel"].values()
    spread = values.std()
    expected = {
        "mean": values.mean(),
        "median": np.median(values),
        "std": spread,
        "percentile_00_5": np.percentile(values, 0.5),
        "percentile_99_5": np.percentile(values, 99.5),
    }
    for name, value in expected.items():
        assert abs(own[name] - value) < 0.03 * spread, name
    assert own.keys() == {*expected, "min", "max"}


def test_nnunet_keeps_just_these_statistics_of_a_channel() -> None:
    values = np.random.default_rng(0).normal(100, 20, 5000).astype(np.float32)
    assert describe_values(values) == pytest.approx(
        {
            "mean": sum(float(value) for value in values) / 5000,
            "median": sorted(values.tolist())[2499] / 2 + sorted(values.tolist())[2500] / 2,
            "std": float(np.std(values.astype(np.float64))),
            "min": min(values.tolist()),
            "max": max(values.tolist()),
            "percentile_00_5": float(np.percentile(values, 0.5)),
            "percentile_99_5": float(np.percentile(values, 99.5)),
        },
        rel=1e-5,
    )


def test_the_sum_of_many_float32_values_does_not_drift() -> None:
    values = np.full(6_000_000, 1000.1, np.float32)
    assert describe_values(values)["mean"] == pytest.approx(float(np.float32(1000.1)), rel=1e-7)
    assert describe_values(values)["std"] == pytest.approx(0, abs=1e-6)


def test_each_case_counts_the_same_however_large_it_is(nnunet_folders: NnUNetFolders, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name, shape, level in (("large", (40, 80, 80), 100.0), ("small", (12, 14, 16), 300.0)):
        noise = np.random.default_rng(0).normal(level, 2, shape).astype(np.float32)
        write(tmp_path / "scans" / f"{name}.nii.gz", noise, (1.0, 1.0, 1.0))
    import_scans(tmp_path / "scans")
    dataset = imported_dataset("501")
    assert [len(look(case).values[0]) for case in dataset.cases] == [VALUES, VALUES]
    assert take_fingerprint(dataset, workers=0).intensities["0"]["mean"] == pytest.approx(200, abs=0.5)


def test_it_is_the_same_every_time_and_with_workers(archive: dict[str, Path]) -> None:
    dataset = imported_dataset("501")
    assert take_fingerprint(dataset, workers=0) == take_fingerprint(dataset, workers=1)


# ---------------------------------------------------------------------------------------------------------- samples


def cases(count: int) -> list[ImportedCase]:
    return [ImportedCase(f"case_{n:03d}", (), "", (1, 1, 1), (1.0, 1.0, 1.0)) for n in range(count)]


@pytest.mark.parametrize(("there", "most", "taken"), [(5, 10, 5), (10, 10, 10), (11, 10, 10), (1000, 3, 3), (7, 1, 1)])
def test_a_sample_is_spread_over_all_cases_and_has_none_twice(there: int, most: int, taken: int) -> None:
    sample = [case.name for case in sample_cases(cases(there), most)]
    assert len(sample) == len(set(sample)) == taken
    assert sample == sorted(sample)
    if most > 1:
        assert (sample[0], sample[-1]) == ("case_000", f"case_{there - 1:03d}")
    assert sample == [case.name for case in sample_cases(cases(there), most)]


def test_only_the_sample_is_read_and_said_to_be(archive: dict[str, Path]) -> None:
    dataset = imported_dataset("501")
    assert sorted(case.name for case in dataset.cases) == [case.name for case in dataset.cases]
    dataset.cases[1].images[0].unlink()
    found = take_fingerprint(dataset, 2, workers=0)
    assert found.sampled == len(found.spacings) == len(found.shapes) == 2


def test_a_case_that_went_away_is_passed_over_and_none_at_all_is_an_error(archive: dict[str, Path]) -> None:
    dataset = imported_dataset("501")
    dataset.cases[0].images[0].unlink()
    found = take_fingerprint(dataset, workers=0)
    assert found.sampled == 2
    assert [tuple(spacing) for spacing in found.spacings] == [case.spacing for case in dataset.cases[1:]]
    for case in dataset.cases[1:]:
        case.images[0].unlink()
    with pytest.raises(DataError, match=r"None of the 3 cases of Dataset501_Archive that were tried could be read: "):
        take_fingerprint(dataset, workers=0)


# ---------------------------------------------------------------------------------------------- beside carried plans


def test_beside_another_datasets_plans_stand_our_grids_and_its_intensities(tmp_path: Path) -> None:
    statistics: dict[str, Any] = {"0": {"mean": 3.0}}
    dataset = ImportedDataset("Dataset501_Archive", tmp_path, ("image",), tuple(cases(7)))
    found = fingerprint_like(dataset, {"foreground_intensity_properties_per_channel": statistics}, most=4)
    assert json.loads(json.dumps(found.to_mapping())) == {
        "spacings": [[1.0, 1.0, 1.0]] * 4,
        "shapes_after_crop": [[1, 1, 1]] * 4,
        "foreground_intensity_properties_per_channel": statistics,
        "median_relative_size_after_cropping": 1.0,
    }
