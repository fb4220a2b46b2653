"""Batches from preprocessed folders in which there is no label to be found."""

from __future__ import annotations

import math
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import (
    comp_blosc2_params,
    nnUNetDatasetBlosc2,
    nnUNetDatasetNumpy,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from pretexts import given_for
from workers import first_targets

from nnunet_volf.augment import Window
from nnunet_volf.cases import CaseImage, UnlabeledCases
from nnunet_volf.dataloading import SampleLoader, collate
from nnunet_volf.errors import DataError
from nnunet_volf.pretext.volf.pairs import (
    FusionSampler,
    choose_partner,
    draw_padded_window,
    exchange,
    inside_mask,
)
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.pretext.volf.transforms import (
    AugmentEachTransform,
    KeepTransform,
    TwoCropAugmentTransform,
    VolumeFusionTransform,
)

PATCH = (12, 16, 16)
MakeCases = Callable[..., UnlabeledCases]


def save_case(folder: Path, identifier: str, image: np.ndarray, patch: tuple[int, ...] = PATCH) -> None:
    """Save a case as nnU-Net's preprocessing does, then delete its labels and properties."""
    blocks, chunks = comp_blosc2_params(image.shape, patch)
    labels = np.zeros((1, *image.shape[1:]), dtype=np.int8)
    nnUNetDatasetBlosc2.save_case(
        image, labels, {"class_locations": {}}, str(folder / identifier), chunks=chunks, blocks=blocks
    )
    (folder / f"{identifier}_seg.b2nd").unlink()
    (folder / f"{identifier}.pkl").unlink()


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def make_cases(tmp_path: Path) -> MakeCases:
    """Make a folder of cases of the given shapes (channels first), and open it."""

    def make(*shapes: tuple[int, ...]) -> UnlabeledCases:
        names = [f"case_{i}" for i in range(len(shapes))]
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            save_case(tmp_path, name, normal(i, *shape))
        return UnlabeledCases(tmp_path, names)

    return make


@pytest.fixture
def cases(make_cases: MakeCases) -> UnlabeledCases:
    return make_cases((1, 20, 24, 28), (1, 14, 30, 22), (1, 18, 18, 18))


def settings(**values: Any) -> VolFSettings:
    return VolFSettings.from_mapping({"intensity": True, **values})


def recipe(patch: tuple[int, ...] = PATCH, **values: Any) -> FusionSampler:
    chosen = settings(**values)
    return FusionSampler(patch, chosen, TwoCropAugmentTransform(patch, chosen), VolumeFusionTransform(patch, chosen))


def plain_recipe(crop: tuple[int, ...] | None, patch: tuple[int, ...] = PATCH, **values: Any) -> FusionSampler:
    chosen = settings(**values)
    return FusionSampler(patch, chosen, KeepTransform(), VolumeFusionTransform(patch, chosen), padded_crop=crop)


def seed_globally(seed: int) -> None:
    np.random.seed(seed)  # noqa: NPY002 - nnU-Net seeds its loaders' workers so


def binomial(hits: int, draws: int, probability: float) -> bool:
    """Whether a count lies within four standard deviations of what the probability promises."""
    return abs(hits - draws * probability) < 4 * math.sqrt(draws * probability * (1 - probability))


# --------------------------------------------------------------------------------------------- batches


def test_no_label_and_no_property_file_is_left_to_read(cases: UnlabeledCases) -> None:
    assert sorted(file.name for file in cases.folder.iterdir()) == [f"case_{i}.b2nd" for i in range(3)]


@pytest.mark.parametrize(
    ("patch", "shape", "channels"),
    [
        pytest.param((12, 16, 16), (20, 24, 28), 1, id="3d"),
        pytest.param((12, 16, 16), (20, 24, 28), 3, id="three channels"),
        pytest.param((6, 32, 28), (10, 40, 36), 1, id="thick slices"),
        pytest.param((16, 16, 16), (9, 30, 11), 1, id="patch larger than the image"),
        pytest.param((24, 20), (7, 40, 36), 2, id="2d, from a stack of slices"),
        pytest.param((24, 20), (1, 16, 50), 1, id="2d, from one slice that is too small"),
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_batches_have_the_shape_of_the_patch(
    make_cases: MakeCases, patch: tuple[int, ...], shape: tuple[int, ...], channels: int, padded: bool
) -> None:
    cases = make_cases((channels, *shape), (channels, *shape))
    loader = SampleLoader(cases, 2, plain_recipe(patch, patch) if padded else recipe(patch))
    batch = next(loader)
    assert (batch["data"].dtype, tuple(batch["data"].shape)) == (torch.float32, (2, channels, *patch))
    assert (batch["target"].dtype, tuple(batch["target"].shape)) == (torch.uint8, (2, 1, *patch))
    assert torch.isfinite(batch["data"]).all()
    assert len(batch["target"].unique()) > 1


def test_deep_supervision_gives_a_target_for_each_resolution(cases: UnlabeledCases) -> None:
    plain = recipe()
    finish = DownsampleSegForDSTransform([[1, 1, 1], [0.5, 0.5, 0.5]])
    batch = next(SampleLoader(cases, 3, FusionSampler(plain.patch, plain.settings, plain.augment, plain.fuse, finish)))
    assert [tuple(target.shape) for target in batch["target"]] == [(3, 1, 12, 16, 16), (3, 1, 6, 8, 8)]


def test_batches_follow_the_global_seed(cases: UnlabeledCases) -> None:
    batches = []
    for seed in (1, 1, 2):
        seed_globally(seed)
        batches.append(next(SampleLoader(cases, 2, recipe())))
    assert torch.equal(batches[0]["data"], batches[1]["data"])
    assert torch.equal(batches[0]["target"], batches[1]["target"])
    assert not torch.equal(batches[0]["target"], batches[2]["target"])


def test_batches_go_on_without_repeating_themselves(cases: UnlabeledCases) -> None:
    loader = SampleLoader(cases, 2, recipe())
    maps = [next(loader)["target"] for _ in range(4)]
    assert not any(torch.equal(maps[i], maps[j]) for i in range(4) for j in range(i))


def test_keys_name_the_case_seen_in_class_zero_and_the_one_seen_in_the_last_class(tmp_path: Path) -> None:
    for name, level in (("ten", 10), ("twenty", 20)):
        save_case(tmp_path, name, normal(level, 1, 20, 20, 20) * 0.1 + level)
    loader = SampleLoader(UnlabeledCases(tmp_path, ["ten", "twenty"]), 6, recipe(partner="other"))
    batch = next(loader)
    level = {"ten": 10.0, "twenty": 20.0}
    for image, labels, (background, foreground) in zip(batch["data"], batch["target"], batch["keys"], strict=True):
        assert float(image[labels == 0].mean()) == pytest.approx(level[background], abs=0.5)
        assert float(image[labels == 4].mean()) == pytest.approx(level[foreground], abs=0.5)


def test_every_case_is_drawn_equally_often_as_background(cases: UnlabeledCases) -> None:
    seed_globally(9)
    loader = SampleLoader(cases, 1, recipe(partner="other"))
    drawn = [next(loader)["keys"][0][0] for _ in range(300)]
    assert all(binomial(drawn.count(name), 300, 1 / 3) for name in cases.identifiers)


def test_two_crops_of_one_case_are_cut_apart(tmp_path: Path) -> None:
    """The case shows its own rows, so that a crop tells where it was cut."""
    rows = np.arange(48, dtype=np.float32)[:, None, None]
    save_case(tmp_path, "rows", np.tile(rows, (1, 8, 8))[None])
    chosen = recipe((12, 8, 8), minimum_distance=0.5, scale=[1.0, 1.0], partner="same", intensity=False)
    rows_only = UnlabeledCases(tmp_path, ["rows"])
    parcels = [chosen.collect(np.random.default_rng(i), rows_only, "rows") for i in range(50)]
    assert min(abs(float(first.mean() - second.mean())) for first, second in (p.crops for p in parcels)) >= 6


def test_an_empty_crop_is_drawn_again(tmp_path: Path) -> None:
    image = normal(0, 1, 40, 16, 16)
    image[:, 10:] = -1  # in two thirds of the places a crop sees only this
    save_case(tmp_path, "half", image)
    cases, sampler = UnlabeledCases(tmp_path, ["half"]), recipe(scale=[1.0, 1.0], intensity=False)
    crops = [sampler.collect(np.random.default_rng(i), cases, "half").crops[0] for i in range(60)]
    empty = sum(bool(crop.amax() == crop.amin()) for crop in crops)
    assert empty < 60 * 0.35  # about (19 / 29) ** 5 = 0.12 are, and 0.66 would be if the first crop were taken


def test_a_case_without_any_contrast_does_not_hang_the_loader(tmp_path: Path) -> None:
    save_case(tmp_path, "air", np.full((1, 20, 20, 20), -1, dtype=np.float32))
    batch = next(SampleLoader(UnlabeledCases(tmp_path, ["air"]), 2, recipe()))
    torch.testing.assert_close(batch["data"], torch.full_like(batch["data"], -1), rtol=1e-6, atol=0)


def test_a_batch_of_lists_is_stacked_scale_by_scale() -> None:
    samples = [
        {"image": torch.full((1, 4), i), "target": [torch.full((1, 4), i), torch.full((1, 2), i)], "keys": i}
        for i in range(2)
    ]
    batch = collate(samples)
    assert [target.tolist() for target in batch["target"]] == [
        [[[0] * 4], [[1] * 4]],
        [[[0] * 2], [[1] * 2]],
    ]
    assert batch["keys"] == [0, 1]


# -------------------------------------------------------------------------------------------- partners

NAMES = [f"case_{i}" for i in range(5)]


def partners(count: int, **values: Any) -> list[str]:
    chosen = settings(**values)
    return [choose_partner(np.random.default_rng([4, i]), "case_2", NAMES, chosen) for i in range(count)]


def test_the_same_case_is_its_own_partner() -> None:
    assert set(partners(50, partner="same")) == {"case_2"}


def test_another_case_is_any_other_case_equally_often() -> None:
    drawn = partners(800, partner="other")
    assert "case_2" not in drawn
    assert all(binomial(drawn.count(name), 800, 0.25) for name in NAMES if name != "case_2")


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_mixed_partners_are_the_same_case_as_often_as_set(share: float) -> None:
    assert binomial(partners(800, partner="mixed", same_share=share).count("case_2"), 800, share)


@pytest.mark.parametrize("partner", ["same", "other", "mixed"])
def test_a_lone_case_is_its_own_partner(make_cases: MakeCases, partner: str) -> None:
    loader = SampleLoader(make_cases((1, 20, 24, 28)), 2, recipe(partner=partner))
    assert next(loader)["keys"] == [("case_0", "case_0")] * 2


def test_a_case_that_a_split_names_twice_is_a_lone_case(cases: UnlabeledCases) -> None:
    twice = UnlabeledCases(cases.folder, ["case_1", "case_1"])
    assert twice.identifiers == ["case_1"]


class Unlisted(Sequence[str]):
    """A long sequence that may be asked for its length and for an item, and counts how often it is asked."""

    asked = 0

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: Any) -> Any:
        assert isinstance(index, int)
        self.asked += 1
        return f"case_{index}"

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all cases were gone through")

    __contains__ = index = count = __reversed__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("partner", ["same", "other", "mixed"])
def test_choosing_a_partner_does_not_go_through_all_cases(partner: str) -> None:
    names = Unlisted()
    drawn = [choose_partner(np.random.default_rng(i), "case_7", names, settings(partner=partner)) for i in range(20)]
    assert len(drawn) == 20
    assert names.asked <= 25


def test_with_reuse_each_pair_serves_twice_with_the_roles_exchanged(cases: UnlabeledCases) -> None:
    keys = next(SampleLoader(cases, 5, recipe(partner="other", reuse_crops=True)))["keys"]
    assert len(keys) == 5
    assert keys[1] == keys[0][::-1]
    assert keys[3] == keys[2][::-1]


def test_with_reuse_both_samples_show_the_same_two_crops(cases: UnlabeledCases) -> None:
    loader = SampleLoader(cases, 2, recipe(partner="other", reuse_crops=True, turned=False))
    batch = next(loader)
    (first, second), (one, two) = batch["data"], batch["target"]
    # Where the first shows its background alone and the second its foreground alone, they show the same crop.
    shared = (one == 0) & (two == 4)
    assert shared.any()
    assert torch.equal(first[shared], second[shared])
    assert not torch.equal(one, two)


def test_with_reuse_whichever_crop_is_the_foreground_is_turned(cases: UnlabeledCases) -> None:
    batch = next(SampleLoader(cases, 2, recipe(partner="other", reuse_crops=True)))
    (first, second), (one, two) = batch["data"], batch["target"]
    opposite, there = (tensor.flip((1, 2, 3)) for tensor in (second, two))
    shared = (one == 0) & (there == 4)
    assert shared.any()
    assert torch.equal(first[shared], opposite[shared])


def test_exchanging_a_pair_exchanges_images_masks_and_keys() -> None:
    pair = {"image": 1, "partner": 2, "image_inside": 3, "partner_inside": 4, "keys": ("a", "b"), "rng": 5}
    assert exchange(pair) == {
        "image": 2,
        "partner": 1,
        "image_inside": 4,
        "partner_inside": 3,
        "keys": ("b", "a"),
        "rng": 5,
    }


# --------------------------------------------------------------------------------------- fixed samples


def test_a_fixed_sample_is_always_the_same(cases: UnlabeledCases) -> None:
    first, again = (SampleLoader(cases, size, recipe()).fixed_sample(7, 3) for size in (1, 4))
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["target"], again["target"])
    assert first["keys"] == again["keys"]


def test_a_fixed_sample_neither_reads_nor_moves_the_global_state(cases: UnlabeledCases) -> None:
    loader = SampleLoader(cases, 1, recipe())
    seed_globally(1)
    first = loader.fixed_sample(7, 3)
    following = np.random.random()  # noqa: NPY002
    seed_globally(1)
    assert np.random.random() == following  # noqa: NPY002
    assert torch.equal(loader.fixed_sample(7, 3)["image"], first["image"])


@pytest.mark.parametrize(("seed", "index"), [(8, 3), (7, 0)])
def test_fixed_samples_differ_by_seed_and_by_number(cases: UnlabeledCases, seed: int, index: int) -> None:
    loader = SampleLoader(cases, 1, recipe())
    assert not torch.equal(loader.fixed_sample(7, 3)["target"], loader.fixed_sample(seed, index)["target"])


def test_fixed_samples_go_round_the_cases(cases: UnlabeledCases) -> None:
    loader = SampleLoader(cases, 1, recipe())
    names = [loader.fixed_sample(7, i)["keys"][0] for i in range(5)]
    assert names == ["case_0", "case_1", "case_2", "case_0", "case_1"]


def test_a_fixed_sample_shows_what_was_fused(cases: UnlabeledCases) -> None:
    sample = SampleLoader(cases, 1, recipe()).fixed_sample(7, 3)
    background, foreground = sample["sources"]
    labels = sample["target"]
    assert torch.equal(sample["image"][labels == 0], background[labels == 0])
    assert torch.equal(sample["image"][labels == 4], foreground[labels == 4])


# ---------------------------------------------------------------------------------------------- damage


def read_all(cases: UnlabeledCases, identifier: str) -> torch.Tensor:
    case = cases.open(identifier)
    return case.read(Window((0, 0, 0), case.volume))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_not_finite_is_reported_with_its_case_and_file(tmp_path: Path, value: float) -> None:
    image = normal(0, 1, 16, 16, 16)
    image[0, 3, 4, 5] = value
    save_case(tmp_path, "broken", image)
    with pytest.raises(DataError, match=r"Case broken: .*broken\.b2nd holds NaN or infinite voxels within \[\[0, 16\]"):
        next(SampleLoader(UnlabeledCases(tmp_path, ["broken"]), 1, recipe((16, 16, 16), scale=[1.0, 1.0])))


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("ending", [".b2nd", ".npy", ".npz"])
def test_a_truncated_file_is_reported_with_its_case_and_file(tmp_path: Path, ending: str, kept: float) -> None:
    image = normal(0, 1, 16, 16, 16)
    file = tmp_path / f"cut{ending}"
    if ending == ".b2nd":
        save_case(tmp_path, "cut", image)
    elif ending == ".npy":
        np.save(file, image)
    else:
        np.savez(file, data=image)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=rf"Case cut: .*cut\{ending} cannot be opened .* Preprocess the case again"):
        read_all(UnlabeledCases(tmp_path, ["cut"]), "cut")


def test_a_file_that_breaks_while_it_is_read_is_reported_with_its_case_and_file(tmp_path: Path) -> None:
    class Torn:
        shape = (1, 8, 8, 8)
        ndim = 4

        def __getitem__(self, _: Any) -> Any:
            raise RuntimeError("Error while getting the buffer")

    case = CaseImage("torn", tmp_path / "torn.b2nd", Torn())
    with pytest.raises(DataError, match=r"Case torn: .*torn\.b2nd cannot be read at voxels .* \(RuntimeError: Error"):
        case.read(Window((0, 0, 0), (4, 4, 4)))


def test_a_missing_case_is_reported_with_its_name_and_folder(cases: UnlabeledCases) -> None:
    loader = SampleLoader(UnlabeledCases(cases.folder, ["gone"]), 1, recipe())
    with pytest.raises(DataError, match=r"Case gone: .* none of gone\.b2nd, gone\.npy, gone\.npz\. Pre") as refused:
        next(loader)
    assert str(cases.folder) in str(refused.value)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no case to pretrain on in .* Preprocess the dataset") as refused:
        UnlabeledCases(tmp_path, [])
    assert str(tmp_path) in str(refused.value)


# --------------------------------------------------------------------------------------------- formats


def test_what_is_read_is_what_was_saved(tmp_path: Path) -> None:
    image = normal(1, 2, 9, 10, 11)
    save_case(tmp_path, "a", image)
    crop = UnlabeledCases(tmp_path, ["a"]).open("a").read(Window((1, 2, 3), (4, 5, 6)))
    np.testing.assert_array_equal(crop.numpy(), image[:, 1:5, 2:7, 3:9])


def test_an_archive_of_numpy_is_read_without_its_labels(tmp_path: Path) -> None:
    image = normal(2, 1, 16, 18, 20)
    nnUNetDatasetNumpy.save_case(image, np.zeros(image.shape, dtype=np.int8), {}, str(tmp_path / "a"))
    (tmp_path / "a.pkl").unlink()
    np.savez(tmp_path / "a.npz", data=image)  # labels live in the same archive: save it without
    np.testing.assert_array_equal(read_all(UnlabeledCases(tmp_path, ["a"]), "a").numpy(), image)


def test_batches_come_from_archives_of_numpy_too(tmp_path: Path) -> None:
    image = normal(2, 1, 16, 18, 20)
    nnUNetDatasetNumpy.save_case(image, np.zeros(image.shape, dtype=np.int8), {}, str(tmp_path / "a"))
    batch = next(SampleLoader(UnlabeledCases(tmp_path, ["a"]), 2, recipe()))
    assert tuple(batch["data"].shape) == (2, 1, *PATCH)


def test_an_unpacked_array_is_preferred_to_its_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=np.zeros((1, 4, 4, 4), dtype=np.float32))
    np.save(tmp_path / "a.npy", np.ones((1, 4, 4, 4), dtype=np.float32))
    assert (read_all(UnlabeledCases(tmp_path, ["a"]), "a") == 1).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16])
def test_voxels_of_any_type_are_read_as_float32(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "a.npy", np.arange(64).reshape(1, 4, 4, 4).astype(dtype))
    crop = read_all(UnlabeledCases(tmp_path, ["a"]), "a")
    assert crop.dtype == torch.float32
    assert crop.flatten().tolist() == list(range(64))


def test_a_crop_may_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 4, 4, 4), dtype=np.float32))
    cases = UnlabeledCases(tmp_path, ["a"])
    read_all(cases, "a").zero_()
    assert (read_all(cases, "a") == 1).all()


def test_cases_are_in_order_however_they_were_listed(tmp_path: Path) -> None:
    assert UnlabeledCases(tmp_path, ["c", "a", "b"]).identifiers == ["a", "b", "c"]


# --------------------------------------------------------------------------------- nnU-Net's own crops


@pytest.mark.parametrize(
    ("volume", "crop", "patch"),
    [
        pytest.param((20, 22, 24), (12, 12, 12), (12, 12, 12), id="no room to stick out"),
        pytest.param((20, 22, 24), (17, 16, 15), (12, 12, 12), id="sticks out"),
        pytest.param((5, 8, 30), (12, 13, 14), (12, 12, 12), id="smaller than the crop"),
        pytest.param((13, 14, 15), (16, 17, 16), (12, 12, 11), id="between patch and crop"),
        pytest.param((6, 20, 20), (1, 14, 15), (1, 12, 12), id="slices"),
    ],
)
def test_crops_are_cut_where_nnunet_cuts_them(
    volume: tuple[int, ...], crop: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    labels = LabelManager({"background": 0, "organ": 1}, None)
    theirs = nnUNetDataLoader(SimpleNamespace(identifiers=["a"]), 1, crop, patch, labels)
    seed_globally(0)
    rng = np.random.default_rng(0)
    expected = [theirs.get_bbox(np.array(volume), False, None)[0] for _ in range(500)]
    found = [draw_padded_window(rng, volume, crop, patch) for _ in range(500)]
    assert {window.size for window in found} == {crop}
    for axis in range(3):
        assert {w.start[axis] for w in found} == {int(lower[axis]) for lower in expected}


def test_what_sticks_out_of_the_volume_is_padded_with_zero(tmp_path: Path) -> None:
    image = normal(3, 1, 4, 5, 6)
    save_case(tmp_path, "a", image)
    crop = UnlabeledCases(tmp_path, ["a"]).open("a").read(Window((-2, 1, -1), (8, 6, 5)))
    expected = np.zeros((1, 8, 6, 5), dtype=np.float32)
    expected[:, 2:6, 0:4, 1:5] = image[:, :, 1:, :4]
    np.testing.assert_array_equal(crop.numpy(), expected)


def test_the_mask_tells_tissue_from_padding() -> None:
    mask = inside_mask(Window((-2, 1, -1), (8, 6, 5)), (4, 5, 6))
    expected = np.zeros((1, 8, 6, 5))
    expected[:, 2:6, 0:4, 1:5] = 1
    np.testing.assert_array_equal(mask.numpy(), expected)


def test_a_window_outside_the_volume_is_all_padding() -> None:
    assert not inside_mask(Window((9, 0, 0), (3, 3, 3)), (4, 4, 4)).any()


def test_where_both_crops_are_padding_the_label_is_background(make_cases: MakeCases) -> None:
    cases = make_cases((1, 8, 10, 9), (1, 9, 8, 10))
    loader = SampleLoader(cases, 1, plain_recipe((16, 16, 16), (16, 16, 16)))
    sample = loader.fixed_sample(1, 0)
    background, foreground = sample["sources"]
    padding = (background == 0) & (foreground == 0)  # a drawn voxel is never exactly zero
    assert padding.any()
    assert not sample["target"][padding].any()
    assert sample["target"][~padding].any()


@pytest.mark.parametrize(
    ("patch", "crop", "flat_axis"),
    [((16, 16, 16), (20, 20, 20), False), ((8, 24, 24), (8, 30, 30), True), ((24, 24), (30, 30), False)],
)
def test_nnunets_own_augmentation_can_take_the_place_of_ours(
    make_cases: MakeCases, patch: tuple[int, ...], crop: tuple[int, ...], flat_axis: bool
) -> None:
    cases = make_cases((2, 9, 28, 26), (2, 12, 40, 22))
    chosen = settings(reuse_crops=True)
    own = nnUNetTrainer.get_training_transforms(patch, (-0.5, 0.5), None, tuple(range(len(patch))), flat_axis)
    loader = SampleLoader(
        cases,
        2,
        FusionSampler(patch, chosen, AugmentEachTransform(own), VolumeFusionTransform(patch, chosen), padded_crop=crop),
    )
    seed_globally(5)
    for _ in range(5):
        batch = next(loader)
        assert tuple(batch["data"].shape) == (2, 2, *patch)
        assert tuple(batch["target"].shape) == (2, 1, *patch)
        assert torch.isfinite(batch["data"]).all()
        assert 1 < len(batch["target"].unique()) <= 5


# --------------------------------------------------------------------------------------------- workers


def test_a_loader_works_alike_in_a_process_that_was_spawned(cases: UnlabeledCases) -> None:
    pickled = pickle.dumps(SampleLoader(cases, 2, recipe()))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        elsewhere = pool.submit(first_targets, pickled).result(timeout=120)
    np.testing.assert_array_equal(first_targets(pickled), elsewhere)


@pytest.mark.parametrize("augmentation", ["volf", "none"])
def test_two_crops_of_one_volume_are_apart_whatever_the_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augmentation: str
) -> None:
    from nnunet_volf import cases as cases_module
    from nnunet_volf.cases import UnlabeledCases
    from nnunet_volf.pretext.volf.pretext import VolumeFusion

    windows = []
    read = cases_module.CaseImage.read_showing
    monkeypatch.setattr(
        cases_module.CaseImage, "read_showing", lambda self, window: (windows.append(window), read(self, window))[1]
    )
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(1, 60, 60, 60)).astype(np.float32))
    settings = VolFSettings.from_mapping(
        {"partner": "same", "augmentation": augmentation, "minimum_distance": 0.5, "scale": [1.0, 1.0]}
    )
    loader = SampleLoader(UnlabeledCases(tmp_path, ["a"]), 1, VolumeFusion(settings, given_for((16, 16, 16))).sampler())
    for index in range(30):
        windows.clear()
        loader.fixed_sample(0, index)
        first, second = windows
        assert max(abs(a - b) for a, b in zip(first.start, second.start, strict=True)) >= 8
