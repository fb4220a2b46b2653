"""Voxel for voxel, to the rounding of float32, what nnU-Net's own preprocessor makes of the same files and plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_volf.phantoms import make_phantom
from nnunet_volf.preprocessing import preprocess_case as module
from nnunet_volf.preprocessing.budget import target_shape
from nnunet_volf.preprocessing.preprocess_case import preprocess_case, read_images
from nnunet_volf.preprocessing.refusals import Refused

SPACING = (1.5, 0.8, 0.9)  # z, y, x
SPLINES = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
LABEL_SPLINES = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
STATISTICS = {"mean": 101.5, "std": 17.25, "percentile_00_5": 65.0, "percentile_99_5": 139.0, "median": 100.0}


def make_plans(
    channels: int = 1, reader: str = "SimpleITKIO", transpose: Sequence[int] = (0, 1, 2), **changes: Any
) -> dict[str, Any]:
    """Plans with one configuration, as nnU-Net writes them but for the network."""
    configuration = {
        "data_identifier": "nnUNetPlans_x",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [16, 16, 16],
        "spacing": [1.2, 1.0, 0.7],
        "normalization_schemes": ["CTNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": SPLINES,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": LABEL_SPLINES,
        "architecture": {},
    }
    configuration.update(changes)
    return {
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [int(i) for i in np.argsort(transpose)],
        "foreground_intensity_properties_per_channel": {str(c): STATISTICS for c in range(channels)},
        "configurations": {"x": configuration},
    }


def make_volume(seed: int = 0, shape: Sequence[int] = (18, 26, 22), border: int = 3) -> np.ndarray:
    """A phantom with air of value 0 around it and a hole of value 0 in it; a corner is missing."""
    image, _ = make_phantom(np.random.default_rng(seed), shape)
    image = np.round(image[0]).astype(np.float32)
    image[:border] = image[:, -border:] = image[:, :, :border] = 0
    image[8:11, 10:13, 10:13] = 0
    image[:6, :8, :7] = 0
    return image


def write_image(
    path: Path, voxels: np.ndarray, spacing: Sequence[float] = SPACING, direction: Sequence[float] | None = None
) -> Path:
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing([float(s) for s in spacing[::-1]])
    if direction is not None:
        image.SetDirection([float(d) for d in direction])
    SimpleITK.WriteImage(image, str(path))
    return path


def nnunets(images: Sequence[Path], plans: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What nnU-Net itself gives."""
    plan = PlansManager(plans)
    config = plan.get_configuration("x")
    preprocessor = config.preprocessor_class(verbose=False)
    data, seg, _ = preprocessor.run_case([str(i) for i in images], None, plan, config, {"labels": {"background": 0}})
    return data, seg


def assert_same_voxels(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to the last bit or two of what the voxels are made of."""
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7 * float(np.abs(expected).max()))


PLANS = {
    "CT": make_plans(),
    "z-score": make_plans(normalization_schemes=["ZScoreNormalization"]),
    "no normalisation": make_plans(normalization_schemes=["NoNormalization"]),
    "to 0..1": make_plans(normalization_schemes=["RescaleTo01Normalization"]),
    "2d": make_plans(spacing=[1.0, 0.7], patch_size=[16, 16]),
    "low resolution": make_plans(spacing=[3.1, 2.2, 2.4]),
    "no resampling": make_plans(spacing=list(SPACING)),
    "no resampling, z-score": make_plans(spacing=list(SPACING), normalization_schemes=["ZScoreNormalization"]),
    "anisotropic": make_plans(spacing=[5.0, 0.7, 0.7]),
    "transposed": make_plans(transpose=(2, 0, 1)),
    "transposed, z-score": make_plans(transpose=(1, 2, 0), normalization_schemes=["ZScoreNormalization"]),
    "mask": make_plans(normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True]),
    "mask, transposed": make_plans(
        normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True], transpose=(2, 1, 0)
    ),
    "nibabel": make_plans(reader="NibabelIO", normalization_schemes=["ZScoreNormalization"]),
    "nibabel, transposed": make_plans(
        reader="NibabelIO", transpose=(2, 0, 1), normalization_schemes=["ZScoreNormalization"]
    ),
    "nibabel, reoriented": make_plans(reader="NibabelIOWithReorient"),
    "SimpleITK, reoriented": make_plans(reader="SimpleITKIOWithReorient"),
    "torch": make_plans(
        resampling_fn_data="resample_torch_fornnunet",
        resampling_fn_data_kwargs={"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False},
    ),
    "torch, anisotropic": make_plans(
        spacing=[5.0, 0.7, 0.7],
        resampling_fn_data="resample_torch_fornnunet",
        resampling_fn_data_kwargs={"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False},
    ),
    "none": make_plans(
        resampling_fn_data="no_resampling_hack",
        resampling_fn_data_kwargs={},
        resampling_fn_seg="no_resampling_hack",
        resampling_fn_seg_kwargs={},
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_voxels_are_nnunets(name: str, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.nii.gz", make_volume(), direction=(0, -1, 0, 1, 0, 0, 0, 0, -1))
    expected, mask = nnunets([image], PLANS[name])
    done = preprocess_case([image], json.dumps(PLANS[name]), "x")
    assert_same_voxels(done.data, expected)
    if "no resampling" in name or "torch" in name or name == "none":
        np.testing.assert_array_equal(done.data, expected)
    if "mask" in name:
        assert done.mask.dtype == np.int8
        assert set(np.unique(mask)) == {-1, 0}
        np.testing.assert_array_equal(done.mask, mask)
    else:
        assert done.mask is None


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"])
@pytest.mark.parametrize("masked", [[False, False], [True, False]])
def test_voxels_of_two_channels_are_nnunets(reader: str, masked: list[bool], tmp_path: Path) -> None:
    plans = make_plans(
        2, reader, (1, 0, 2), normalization_schemes=["ZScoreNormalization", "CTNormalization"], use_mask_for_norm=masked
    )
    images = [write_image(tmp_path / f"{c}.nii.gz", make_volume(c, border=2 + c)) for c in range(2)]
    expected, mask = nnunets(images, plans)
    done = preprocess_case(images, json.dumps(plans), "x")
    assert_same_voxels(done.data, expected)
    if any(masked):
        np.testing.assert_array_equal(done.mask, mask)


@pytest.mark.parametrize("seed", range(6))
def test_voxels_of_random_grids_are_nnunets(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    shape, border = rng.integers(14, 34, size=3), int(rng.integers(1, 4))
    image = write_image(tmp_path / "a.mha", make_volume(seed, shape, border), rng.uniform(0.5, 4, size=3))
    plans = make_plans(
        transpose=rng.permutation(3).tolist(),
        spacing=rng.uniform(0.6, 4, size=3).tolist(),
        normalization_schemes=[str(rng.choice(["CTNormalization", "ZScoreNormalization", "NoNormalization"]))],
    )
    assert_same_voxels(preprocess_case([image], json.dumps(plans), "x").data, nnunets([image], plans)[0])


def test_the_estimated_shape_is_that_of_an_image_which_is_not_cropped(tmp_path: Path) -> None:
    voxels = make_volume() + 1
    image = write_image(tmp_path / "a.nii.gz", voxels)
    for name in ("transposed", "2d", "low resolution"):
        plan = PLANS[name]
        expected = preprocess_case([image], json.dumps(plan), "x").data.shape[1:]
        shape, spacing = ([values[axis] for axis in plan["transpose_forward"]] for values in (voxels.shape, SPACING))
        assert target_shape(shape, spacing, plan["configurations"]["x"]["spacing"]) == expected


class OtherPreprocessor(DefaultPreprocessor):
    """A class that changes a step, as users' classes do."""

    def run_case_npy(self, data: Any, *arguments: Any) -> Any:
        return super().run_case_npy(data * 2, *arguments)


def test_a_preprocessor_class_with_steps_of_its_own_is_asked_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "a.nii.gz", make_volume())
    plans = make_plans(normalization_schemes=["NoNormalization"])
    usual = preprocess_case([image], json.dumps(plans), "x").data
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

    module._managers.cache_clear()
    monkeypatch.setattr(ConfigurationManager, "preprocessor_class", OtherPreprocessor)
    changed = preprocess_case([image], json.dumps(plans), "x").data
    module._managers.cache_clear()
    np.testing.assert_array_equal(changed, nnunets([image], plans)[0])
    assert not np.array_equal(changed, usual)


def test_a_format_that_the_plans_reader_cannot_read_is_read_by_ours(tmp_path: Path) -> None:
    voxels = make_volume()
    nifti, nrrd = write_image(tmp_path / "a.nii.gz", voxels), write_image(tmp_path / "a.nrrd", voxels)
    plans = json.dumps(make_plans(reader="NibabelIO"))
    np.testing.assert_allclose(
        preprocess_case([nrrd], plans, "x").data, preprocess_case([nifti], plans, "x").data, rtol=1e-6
    )


def test_a_nifti_whose_axes_are_not_at_right_angles_is_read_by_ours(tmp_path: Path) -> None:
    voxels = make_volume()
    affine = np.diag([0.9, 0.8, 1.5, 1.0])
    affine[0, 1] = 0.01
    nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine), tmp_path / "sheared.nii.gz")
    with pytest.raises(RuntimeError):
        SimpleITK.ReadImage(str(tmp_path / "sheared.nii.gz"))
    plans = json.dumps(make_plans())
    straight = preprocess_case([write_image(tmp_path / "straight.nii.gz", voxels)], plans, "x").data
    sheared = preprocess_case([tmp_path / "sheared.nii.gz"], plans, "x").data
    assert sheared.shape == straight.shape
    np.testing.assert_allclose(sheared, straight, atol=1e-4)


@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, -1, 0, 1, 0, 0, 0, 0, -1), (0, 0, 1, -1, 0, 0, 0, -1, 0)]
)
def test_our_reader_turns_axes_as_nnunets_reorienting_readers_do(direction: Any, tmp_path: Path) -> None:
    voxels = make_volume(shape=(12, 14, 16), border=1)
    nrrd = write_image(tmp_path / "a.nrrd", voxels, direction=direction)
    nifti = write_image(tmp_path / "a.nii.gz", voxels, direction=direction)
    reader = PlansManager(make_plans(reader="NibabelIOWithReorient")).image_reader_writer_class()
    (ours, ours_properties), (theirs, properties) = read_images([nrrd], reader), read_images([nifti], reader)
    assert "nibabel_stuff" in properties
    assert "nibabel_stuff" not in ours_properties
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours_properties["spacing"], properties["spacing"], rtol=1e-6)


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO"])
def test_channels_on_different_grids_are_refused_with_both_grids_and_nothing_printed(
    reader: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = write_image(tmp_path / "a.nii.gz", make_volume())
    shorter = write_image(tmp_path / "b.nii.gz", make_volume()[:-1])
    wider = write_image(tmp_path / "c.nii.gz", make_volume(), (2.0, 0.8, 0.9))
    plans = json.dumps(make_plans(2, reader))
    with pytest.raises(
        Refused, match=r"Channel 1 has \(17, 26, 22\) voxels .* channel 0 has \(18, 26, 22\) voxels"
    ) as told:
        preprocess_case([first, shorter], plans, "x")
    assert told.value.kind == "grids"
    with pytest.raises(Refused, match=r"of 2 x 0\.8 x 0\.9 mm, channel 0 has .* of 1\.5 x 0\.8 x 0\.9 mm"):
        preprocess_case([first, wider], plans, "x")
    assert capfd.readouterr() == ("", "")


def test_a_file_nobody_can_read_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "secret.nii.gz").write_bytes(b"nothing")
    with pytest.raises(Refused) as told:
        preprocess_case([tmp_path / "secret.nii.gz"], json.dumps(make_plans()), "x")
    assert "secret" not in str(told.value)


def test_a_file_of_four_dimensions_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 8, 3), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(Refused) as told:
        preprocess_case([tmp_path / "a.nii.gz"], json.dumps(make_plans()), "x")
    assert told.value.kind == "dimensions"


def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    voxels = make_volume()
    voxels[9, 9, 9] = np.nan
    image = write_image(tmp_path / "a.mha", voxels)  # SimpleITK reads NaN as 0 from NIfTI
    with pytest.raises(Refused, match="NaN or infinite after normalisation") as told:
        preprocess_case([image], json.dumps(make_plans(normalization_schemes=["NoNormalization"])), "x")
    assert told.value.kind == "non-finite"


def test_a_scan_thinner_than_half_a_voxel_of_the_plan_is_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.nii.gz", make_volume(), (0.01, 0.8, 0.9))
    with pytest.raises(Refused, match=r"would be \(0, 23, 24\) at the plan's spacing of 5 x 0\.8 x 0\.7 mm") as told:
        preprocess_case([image], json.dumps(make_plans(spacing=[5.0, 0.8, 0.7])), "x")
    assert told.value.kind == "too-small"
