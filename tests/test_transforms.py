"""Volume Fusion as transforms of batchgenerators, of both generations."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from batchgenerators.transforms.abstract_transforms import Compose
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform

from nnunet_volf.errors import DataError, SettingsError
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.pretext.volf.transforms import (
    AugmentEachTransform,
    KeepTransform,
    PairVolumeFusion,
    TwoCropAugmentTransform,
    VolumeFusionTransform,
)

PATCH = (12, 16, 16)
SETTINGS = VolFSettings.from_mapping({"intensity": True})


def crops(seed: int, *shape: int) -> dict[str, torch.Tensor]:
    first, second = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
    return {"image": torch.from_numpy(first), "partner": torch.from_numpy(second)}


def both(patch: tuple[int, ...] = PATCH) -> ComposeTransforms:
    return ComposeTransforms([TwoCropAugmentTransform(patch, SETTINGS), VolumeFusionTransform(patch, SETTINGS)])


def same(a: dict[str, Any], b: dict[str, Any], *names: str) -> bool:
    return all(torch.equal(a[name], b[name]) for name in names)


def seed_globally(seed: int) -> None:
    np.random.seed(seed)  # noqa: NPY002 - batchgenerators' transforms draw from the global state


# ----------------------------------------------------------------------------------- batchgeneratorsv2


@pytest.mark.parametrize("patch", [(20, 24), PATCH])
def test_the_result_is_a_function_of_the_given_generator(patch: tuple[int, ...]) -> None:
    pair = crops(0, 2, *patch)
    first, again, other = (both(patch)(**pair, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert same(first, again, "image", "partner", "segmentation")
    assert not same(first, other, "segmentation")


def test_a_given_generator_leaves_the_global_state_alone() -> None:
    seed_globally(3)
    expected = np.random.random()  # noqa: NPY002
    seed_globally(3)
    both()(**crops(0, 1, *PATCH), rng=np.random.default_rng(1))
    assert np.random.random() == expected  # noqa: NPY002


def test_without_a_generator_the_result_follows_the_global_seed() -> None:
    results = []
    for seed in (4, 4, 5):
        seed_globally(seed)
        results.append(both()(**crops(0, 1, *PATCH)))
    assert same(results[0], results[1], "image", "segmentation")
    assert not same(results[0], results[2], "segmentation")


def test_fusing_gives_an_image_and_a_map_of_the_patch() -> None:
    result = both()(**crops(1, 3, 9, 20, 17))
    assert (result["image"].dtype, tuple(result["image"].shape)) == (torch.float32, (3, *PATCH))
    assert (result["segmentation"].dtype, tuple(result["segmentation"].shape)) == (torch.uint8, (1, *PATCH))


def test_the_two_crops_may_come_in_different_sizes() -> None:
    pair = {"image": crops(2, 1, 9, 20, 17)["image"], "partner": crops(2, 1, 15, 11, 30)["partner"]}
    result = TwoCropAugmentTransform(PATCH, SETTINGS)(**pair)
    assert tuple(result["image"].shape) == tuple(result["partner"].shape) == (1, *PATCH)


def test_the_image_is_the_background_and_the_partner_the_foreground() -> None:
    pair = {"image": torch.zeros(1, *PATCH), "partner": torch.ones(1, *PATCH)}
    result = VolumeFusionTransform(PATCH, SETTINGS)(**pair)
    torch.testing.assert_close(result["image"], result["segmentation"] / 4)
    assert len(result["segmentation"].unique()) == 5


def test_what_else_travels_with_a_pair_arrives() -> None:
    result = both()(**crops(0, 1, *PATCH), keys=("a", "b"))
    assert result["keys"] == ("a", "b")


def test_the_map_is_downsampled_for_deep_supervision_by_nnunets_transform() -> None:
    chain = ComposeTransforms([both(), DownsampleSegForDSTransform([[1, 1, 1], [1, 0.5, 0.5], [0.5, 0.25, 0.25]])])
    scales = chain(**crops(0, 1, *PATCH))["segmentation"]
    assert [tuple(s.shape) for s in scales] == [(1, 12, 16, 16), (1, 12, 8, 8), (1, 6, 4, 4)]
    assert {s.dtype for s in scales} == {torch.uint8}


def test_where_both_crops_are_padding_the_label_is_background() -> None:
    pair = crops(0, 1, *PATCH)
    masks = {name: torch.ones((1, *PATCH), dtype=torch.int16) for name in ("image_inside", "partner_inside")}
    masks["image_inside"][:, :6] = 0
    masks["partner_inside"][:, :, 8:] = 0
    fuse = VolumeFusionTransform(PATCH, VolFSettings.from_mapping({"turned": False}))
    padded = fuse(**pair, **masks, rng=np.random.default_rng(6))["segmentation"]
    plain = fuse(**pair, rng=np.random.default_rng(6))["segmentation"]
    expected = plain.clone()
    expected[:, :6, 8:] = 0
    assert plain[:, :6, 8:].any()
    assert torch.equal(padded, expected)


class Add(BasicTransform):
    """Adds one to the image and takes one row off the mask, so that it shows where it has been."""

    def apply(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        mask = data["segmentation"].clone()
        mask[:, 0] = 0
        return {"image": data["image"] + 1, "segmentation": mask}


def test_a_transform_for_single_images_is_applied_to_each_crop_and_its_mask() -> None:
    pair = crops(0, 1, *PATCH)
    masks = {name: torch.ones((1, *PATCH), dtype=torch.int16) for name in ("image_inside", "partner_inside")}
    result = AugmentEachTransform(Add())(**pair, **masks, keys=("a", "b"))
    assert torch.equal(result["image"], pair["image"] + 1)
    assert torch.equal(result["partner"], pair["partner"] + 1)
    assert [int(result[name].sum()) for name in masks] == [11 * 16 * 16] * 2
    assert result["keys"] == ("a", "b")


def test_keeping_a_pair_changes_nothing() -> None:
    pair = crops(0, 1, *PATCH)
    assert same(KeepTransform()(**pair), pair, "image", "partner")


@pytest.mark.parametrize(
    ("image", "partner"),
    [((1, 12, 16, 15), (1, 12, 16, 16)), ((1, 12, 16, 16), (2, 12, 16, 16)), ((1, 9, 9, 9), (1, 9, 9, 9))],
)
def test_crops_of_a_wrong_shape_are_refused(image: tuple[int, ...], partner: tuple[int, ...]) -> None:
    with pytest.raises(
        DataError, match=r"two crops of shape \(channels, 12, 16, 16\) and got .* to the patch size first"
    ):
        VolumeFusionTransform(PATCH, SETTINGS)(image=torch.zeros(image), partner=torch.zeros(partner))


@pytest.mark.parametrize("transform", [VolumeFusionTransform, PairVolumeFusion])
def test_settings_that_cannot_be_learnt_are_refused_when_the_transform_is_built(transform: Any) -> None:
    with pytest.raises(SettingsError, match="foreground_ratio"):
        transform(PATCH, VolFSettings.from_mapping({"foreground_ratio": 0.8, "turned": False}))


# ------------------------------------------------------------------------------- the foreground on its head


TURNED = VolFSettings.from_mapping({"scale": [1.0, 1.0]})


@pytest.mark.parametrize("patch", [(20, 24), PATCH])
@pytest.mark.parametrize("scheme", ["grid", "boxes"])
def test_a_turned_foreground_is_fused_upside_down_voxel_by_voxel(patch: tuple[int, ...], scheme: str) -> None:
    settings = VolFSettings.from_mapping({**TURNED.to_mapping(), "scheme": scheme, "flip": 1.0})
    pair = crops(4, 2, *patch)
    rng = np.random.default_rng(0)
    shown = TwoCropAugmentTransform(patch, settings)(**pair, rng=rng)
    assert same(shown, pair, "image", "partner"), "neither crop is flipped"
    fused = VolumeFusionTransform(patch, settings)(**shown)
    labels = fused["segmentation"][0]
    for voxel in np.ndindex(*patch):
        opposite = tuple(side - 1 - place for side, place in zip(patch, voxel, strict=True))
        alpha = int(labels[voxel]) / settings.coefficients
        for channel in range(2):
            background, foreground = pair["image"][channel][voxel], pair["partner"][channel][opposite]
            expected = alpha * foreground + (1 - alpha) * background
            assert float(fused["image"][channel][voxel]) == pytest.approx(float(expected), abs=1e-5)
            assert fused["partner"][channel][voxel] == foreground
    assert len(labels.unique()) > 2


def test_a_turned_foreground_brings_its_padding_along() -> None:
    pair = crops(0, 1, *PATCH)
    inside = torch.ones((1, *PATCH), dtype=torch.int16)
    inside[:, :4] = 0
    masks = {"image_inside": torch.zeros_like(inside), "partner_inside": inside}
    labels = VolumeFusionTransform(PATCH, TURNED)(**pair, **masks, rng=np.random.default_rng(0))["segmentation"]
    assert not labels[:, -4:].any(), "both are padding there, once the foreground is turned"
    assert labels[:, :4].any()


def test_a_turned_foreground_may_cover_most_of_the_patch() -> None:
    asked = {"coefficients": 2, "foreground_ratio": 0.9}
    VolumeFusionTransform(PATCH, VolFSettings.from_mapping(asked))
    with pytest.raises(SettingsError, match="With turned=true, how the volumes stand tells them apart instead"):
        VolumeFusionTransform(PATCH, VolFSettings.from_mapping({**asked, "turned": False}))


# ----------------------------------------------------------------------------- classic batchgenerators


def batch(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("patch", [(20, 24), PATCH])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_a_classic_batch_comes_out_in_the_patch_size(patch: tuple[int, ...], dtype: type) -> None:
    data = (batch(0, 3, 2, *(side + 4 for side in patch)) * 100).astype(dtype)
    result = PairVolumeFusion(patch, SETTINGS)(data=data)
    assert (result["data"].dtype, result["data"].shape) == (np.float32, (3, 2, *patch))
    assert (result["seg"].dtype, result["seg"].shape) == (np.int16, (3, 1, *patch))


def test_a_classic_batch_of_one_without_a_partner_is_refused() -> None:
    with pytest.raises(DataError, match=r"batch of 1 cannot be fused with itself: .* give a second batch as 'partner'"):
        PairVolumeFusion(PATCH, SETTINGS)(data=batch(0, 1, 1, *PATCH))


def test_a_classic_batch_of_one_with_a_partner_is_fused() -> None:
    result = PairVolumeFusion(PATCH, SETTINGS)(data=batch(0, 1, 1, *PATCH), partner=batch(1, 1, 1, *PATCH))
    assert len(np.unique(result["seg"])) > 1


def test_a_classic_batch_and_its_partner_must_be_equally_many() -> None:
    with pytest.raises(DataError, match=r"'data' holds 2 sample\(s\) and 'partner' 1"):
        PairVolumeFusion(PATCH, SETTINGS)(data=batch(0, 2, 1, *PATCH), partner=batch(1, 1, 1, *PATCH))


@pytest.mark.parametrize("with_partner", [False, True])
def test_the_classic_transform_equals_the_new_one_sample_by_sample(with_partner: bool) -> None:
    data, partner = batch(0, 3, 1, 14, 18, 18), batch(1, 3, 1, 14, 18, 18)
    seed_globally(7)
    result = PairVolumeFusion(PATCH, SETTINGS)(data=data, **({"partner": partner} if with_partner else {}))
    seed_globally(7)
    for i in range(3):
        foreground = partner[i] if with_partner else data[i - 1]  # the batch rolled by one, as in 2023
        sample = both()(image=torch.from_numpy(data[i]), partner=torch.from_numpy(foreground))
        np.testing.assert_array_equal(result["data"][i], sample["image"].numpy())
        np.testing.assert_array_equal(result["seg"][i], sample["segmentation"].numpy())


def test_the_classic_transform_leaves_its_input_as_it_is() -> None:
    data = batch(0, 2, 1, *PATCH)
    before = data.copy()
    PairVolumeFusion(PATCH, SETTINGS)(data=data)
    np.testing.assert_array_equal(data, before)


def test_the_classic_transform_composes_and_passes_other_entries_on() -> None:
    chain = Compose([PairVolumeFusion(PATCH, SETTINGS)])
    assert chain(data=batch(0, 2, 1, *PATCH), keys=["a", "b"])["keys"] == ["a", "b"]


# ------------------------------------------------------------------------------------- other processes


def run_pickled(pickled: bytes) -> list[np.ndarray]:
    """Unpickle transforms in this process and apply them to crops made from a seed."""
    results = []
    seed_globally(8)
    for transform in pickle.loads(pickled):
        masks = {name: torch.ones((1, *PATCH), dtype=torch.int16) for name in ("image_inside", "partner_inside")}
        if isinstance(transform, PairVolumeFusion):
            results.append(transform(data=batch(2, 2, 1, *PATCH))["data"])
        else:
            results.append(transform(**crops(2, 1, *PATCH), **masks)["image"].numpy())
    return results


def test_transforms_work_alike_in_a_process_that_was_spawned() -> None:
    transforms = [
        both(),
        AugmentEachTransform(KeepTransform()),
        KeepTransform(),
        VolumeFusionTransform(PATCH, VolFSettings.from_mapping({"scheme": "boxes", "flip": 0.1})),
        PairVolumeFusion(PATCH, SETTINGS),
    ]
    pickled = pickle.dumps(transforms)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        elsewhere = pool.submit(run_pickled, pickled).result(timeout=120)
    for here, there in zip(run_pickled(pickled), elsewhere, strict=True):
        np.testing.assert_array_equal(here, there)


def test_shuffled_foreground_takes_its_padding_along() -> None:
    """A fused block that shows tissue from elsewhere keeps its label, whatever lies at its own place."""
    patch = (16, 16, 16)
    settings = VolFSettings.from_mapping({"scheme": "shuffle"})
    inside = torch.ones((1, *patch), dtype=torch.int16)
    inside[:, :8] = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        foreground = torch.where(inside > 0, torch.rand(1, *patch) + 1, 0.0)
        pair = {"image": torch.zeros(1, *patch), "partner": foreground}
        masks = {"image_inside": torch.zeros_like(inside), "partner_inside": inside}
        sample = VolumeFusionTransform(patch, settings)(**pair, **masks, rng=rng)
        assert torch.equal(sample["segmentation"] > 0, sample["image"] > 0)
