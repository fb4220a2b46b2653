"""What workers hand over when the device makes the samples, and that it makes the samples that workers would make."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import pin_memory_of_all_eligible_items_in_dict
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from hypothesis import given
from hypothesis import strategies as st
from pretexts import given_for

from nnunet_volf.cases import CaseImage, UnlabeledCases
from nnunet_volf.dataloading import BatchMaker, ParcelLoader, SampleLoader
from nnunet_volf.parcels import HALVING_ERROR, Parcel, fits_halves, pack, unpack
from nnunet_volf.pretext.mae.pretext import MaskedReconstruction
from nnunet_volf.pretext.mae.settings import MAESettings
from nnunet_volf.pretext.pretext import Sampler
from nnunet_volf.pretext.slem.pretext import Recombination
from nnunet_volf.pretext.slem.sampler import RecombinationSampler
from nnunet_volf.pretext.slem.settings import SLeMSettings
from nnunet_volf.pretext.voco.pretext import VolumeContrast
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.volf.pairs import FusionSampler
from nnunet_volf.pretext.volf.pretext import VolumeFusion
from nnunet_volf.pretext.volf.settings import VolFSettings

CPU = torch.device("cpu")
SCALES = {3: [[1.0] * 3, [0.5] * 3], 2: [[1.0] * 2, [0.5] * 2]}


def fusion(patch: tuple[int, ...] = (12, 16, 16), channels: int = 1, **values: Any) -> FusionSampler:
    names = [f"channel {i}" for i in range(channels)]
    settings = VolFSettings.from_mapping({"intensity": True, **values})
    sampler = VolumeFusion(settings, given_for(patch, names)).sampler(training=True)
    return replace(sampler, finish=DownsampleSegForDSTransform(SCALES[len(patch)]))


def masking(**values: Any) -> Sampler:
    return MaskedReconstruction(MAESettings.from_mapping(values), given_for((12, 16, 16))).sampler(training=True)


def contrasting(**values: Any) -> Sampler:
    return VolumeContrast(VoCoSettings.from_mapping(values), given_for()).sampler(training=True)


def recombining(**values: Any) -> Sampler:
    return Recombination(SLeMSettings.from_mapping(values), given_for(channels=("T1", "T2"))).sampler(training=True)


SAMPLERS: dict[str, tuple[Sampler, int]] = {
    "volume fusion": (fusion(), 1),
    "boxes, two channels": (fusion(scheme="boxes", channels=2), 2),
    "shuffled, crops reused": (fusion(scheme="shuffle", reuse_crops=True), 1),
    "the foreground turned, crops reused": (fusion(turned=True, reuse_crops=True), 1),
    "2d": (fusion((24, 20), partner="other"), 1),
    "padded crops": (fusion((24, 24, 24), augmentation="none", reuse_crops=True), 1),
    "padded 2d crops, shuffled": (fusion((24, 40), augmentation="none", scheme="shuffle"), 1),
    "masked reconstruction": (masking(), 1),
    "VoCo": (contrasting(rotate=0.8), 1),
    "SLeM": (recombining(), 2),
    "SLeM, block by block": (recombining(head="blocks"), 2),
}
any_sampler = pytest.mark.parametrize(("sampler", "channels"), SAMPLERS.values(), ids=SAMPLERS)


def cases_of(folder: Path, channels: int = 1) -> UnlabeledCases:
    """Cases of several shapes."""
    for number, shape in enumerate(((14, 30, 22), (20, 18, 28), (18, 24, 24))):
        image = np.random.default_rng(number).normal(size=(channels, *shape))
        np.save(folder / f"case_{number}.npy", image.astype(np.float32))
    return UnlabeledCases(folder, [f"case_{number}" for number in range(3)])


def seed_globally(seed: int) -> None:
    np.random.seed(seed)  # noqa: NPY002 - nnU-Net seeds its loaders' workers so


def targets_of(batch: dict[str, Any]) -> list[torch.Tensor]:
    return batch["target"] if isinstance(batch["target"], list) else [batch["target"]]


def both_ways(cases: UnlabeledCases, sampler: Sampler, size: int, device: torch.device = CPU) -> list[Any]:
    """The batch that workers make, and the one that is made on a device, from the same seed."""
    seed_globally(11)
    by_workers = next(SampleLoader(cases, size, sampler))
    seed_globally(11)
    return [by_workers, BatchMaker(sampler, size, device)(next(ParcelLoader(cases, size, sampler)))]


# -------------------------------------------------------------------------------------- the same samples


@any_sampler
@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_of_voxels_that_were_not_rounded_is_the_same_wherever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: Sampler, channels: int, size: int
) -> None:
    monkeypatch.setattr("nnunet_volf.parcels.fits_halves", lambda _crop: False)
    by_workers, on_device = both_ways(cases_of(tmp_path, channels), sampler, size)
    assert on_device["keys"] == by_workers["keys"]
    assert torch.equal(on_device["data"], by_workers["data"])
    assert len(by_workers["data"]) == size
    for made, expected in zip(targets_of(on_device), targets_of(by_workers), strict=True):
        assert made.dtype == expected.dtype
        assert torch.equal(made, expected)


@any_sampler
def test_rounding_voxels_changes_a_batch_by_as_little(tmp_path: Path, sampler: Sampler, channels: int) -> None:
    """Voxels spread by 1. Rounding moves one by 2^-11 of its value at most, and the contrast map steepens that."""
    by_workers, on_device = both_ways(cases_of(tmp_path, channels), sampler, 4)
    error = on_device["data"] - by_workers["data"]
    assert 0 < float(error.square().mean().sqrt()) < 1e-3
    assert float(error.abs().max()) < 0.1
    for made, expected in zip(targets_of(on_device), targets_of(by_workers), strict=True):
        torch.testing.assert_close(made, expected, rtol=0, atol=0.02)


def test_both_loaders_leave_the_global_state_alike(tmp_path: Path) -> None:
    """So a training with one process goes on bit for bit, whichever of them it has."""
    cases, sampler, following = cases_of(tmp_path), fusion(), []
    for loader in (SampleLoader(cases, 3, sampler), ParcelLoader(cases, 3, sampler)):
        seed_globally(2)
        next(loader)
        following.append(np.random.random())  # noqa: NPY002
    assert following[0] == following[1]


@any_sampler
def test_making_a_sample_draws_nothing_and_leaves_the_parcel_as_it_was(
    tmp_path: Path, sampler: Sampler, channels: int
) -> None:
    parcel = sampler.collect(np.random.default_rng(0), cases_of(tmp_path, channels), "case_1")
    before = [crop.clone() for crop in parcel.crops]
    seed_globally(1)
    torch.manual_seed(1)
    first = sampler.make(parcel)
    seed_globally(2)
    torch.manual_seed(2)
    again = sampler.make(parcel)
    assert len(first) == parcel.samples
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["image"], other["image"])
    assert all(torch.equal(a, b) for a, b in zip(parcel.crops, before, strict=True))


# ---------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(fusion(intensity=False), id="volume fusion"),
        pytest.param(fusion(intensity=False, scheme="boxes", reuse_crops=True), id="boxes"),
        pytest.param(fusion((24, 24, 24), augmentation="none", scheme="shuffle"), id="shuffled, padded"),
        pytest.param(fusion((24, 40), intensity=False, scheme="shuffle"), id="2d"),
        pytest.param(masking(intensity=False), id="masked reconstruction"),
        pytest.param(contrasting(intensity=False, rotate=1.0), id="VoCo"),
        pytest.param(recombining(intensity=False), id="SLeM"),
    ],
)
def test_nothing_is_left_on_the_cpu_when_the_crops_are_elsewhere(sampler: Sampler) -> None:
    """torch keeps shapes and devices alone, so that no GPU is needed, and refuses to mix devices.

    Contrast maps are left out: they look at voxels, and there are none.
    """
    fakes = pytest.importorskip("torch._subclasses.fake_tensor")
    cases: Any = Volumes(channels=2 if isinstance(sampler, RecombinationSampler) else 1)
    parcel = sampler.collect(np.random.default_rng(0), cases, "a")
    with fakes.FakeTensorMode():
        try:
            crops = tuple(torch.empty(crop.shape, device="cuda") for crop in parcel.crops)
        except RuntimeError as problem:  # seen with torch 2.1
            pytest.skip(f"torch makes no tensor on a device that is not there: {problem}")
        for sample in sampler.make(Parcel(crops, parcel.drawn, parcel.samples)):
            assert {made.device.type for made in (sample["image"], *targets_of(sample))} == {"cuda"}


class Volumes:
    """Cases without files."""

    identifiers = ("a", "b")

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def open(self, identifier: str) -> CaseImage:
        voxels = np.random.default_rng(ord(identifier)).normal(size=(self.channels, 20, 30, 28)).astype(np.float32)
        return CaseImage(identifier, Path(identifier), voxels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@any_sampler
def test_a_gpu_makes_the_batch_that_a_worker_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: Sampler, channels: int
) -> None:
    monkeypatch.setattr("nnunet_volf.parcels.fits_halves", lambda _crop: False)
    by_workers, on_device = both_ways(cases_of(tmp_path, channels), sampler, 3, torch.device("cuda"))
    assert on_device["data"].device.type == "cuda"
    torch.testing.assert_close(on_device["data"].cpu(), by_workers["data"], rtol=0, atol=1e-4)
    for made, expected in zip(targets_of(on_device), targets_of(by_workers), strict=True):
        torch.testing.assert_close(made.cpu(), expected, rtol=0, atol=1e-4)


# ---------------------------------------------------------------------------------------------- packing

SHAPES = st.tuples(*[st.integers(1, 3)] * 4)


@given(
    st.lists(st.lists(SHAPES, min_size=1, max_size=2), min_size=1, max_size=4),
    st.sampled_from([1e-6, 1.0, 3e4, 1e6]),
    st.floats(-1e4, 1e4),
)
def test_crops_arrive_in_order_and_nearly_exact(shapes: Any, spread: float, centre: float) -> None:
    rng = np.random.default_rng(0)

    def crop(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy((centre + spread * rng.normal(size=shape)).astype(np.float32))

    parcels = [Parcel(tuple(crop(s) for s in each), f"drawn {i}", i + 1) for i, each in enumerate(shapes)]
    arrived = list(unpack(pickle.loads(pickle.dumps(pack(parcels))), CPU))
    assert [(p.drawn, p.samples) for p in arrived] == [(p.drawn, p.samples) for p in parcels]
    for sent, got in zip(parcels, arrived, strict=True):
        for before, after in zip(sent.crops, got.crops, strict=True):
            assert (after.dtype, after.shape) == (torch.float32, before.shape)
            for one, other in zip(before, after, strict=True):
                assert float((one - other).abs().max()) <= HALVING_ERROR * float(one.max() - one.min())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([-3.0, 0.1, 8.0], True, id="normalised"),
        pytest.param([0.0, 0.3, 1.0], True, id="scaled to 1"),
        pytest.param([-1024.0, 40.0, 3071.0], True, id="Hounsfield units"),
        pytest.param([0.0, 1.0, 70000.0], False, id="too large"),
        pytest.param([-70000.0, 1.0, 2.0], False, id="too far below 0"),
        pytest.param([10000.0, 10001.0, 10090.0], False, id="far from 0"),
        pytest.param([0.0, 1e-6, 1e-5], False, id="too small"),
        pytest.param([5.1, 5.1, 5.1], False, id="constant"),
    ],
)
def test_crops_travel_as_halves_where_that_costs_nothing_to_speak_of(values: list[float], expected: bool) -> None:
    assert fits_halves(torch.tensor(values)[None]) is expected
    sent = pack([Parcel((torch.tensor(values)[None],), None)])["voxels"]
    assert sent.dtype == (torch.float16 if expected else torch.float32)


def test_every_channel_has_to_fit() -> None:
    fine, large = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 1.0, 70000.0])
    assert fits_halves(torch.stack([fine, fine]))
    assert not fits_halves(torch.stack([fine, large]))


def test_one_crop_that_does_not_fit_keeps_its_batch_exact() -> None:
    fine, large = torch.tensor([[0.1, 0.5, 1.0]]), torch.tensor([[0.1, 1.0, 70000.0]])
    (arrived,) = unpack(pack([Parcel((fine, large), None)]), CPU)
    assert torch.equal(arrived.crops[0], fine)
    assert torch.equal(arrived.crops[1], large)


def test_a_packed_batch_is_one_tensor_and_plain_values(tmp_path: Path) -> None:
    """Each tensor that crosses processes is an open file, and 2D batches have many crops."""
    packed = next(ParcelLoader(cases_of(tmp_path), 20, fusion((24, 20))))
    assert [name for name, value in packed.items() if isinstance(value, torch.Tensor)] == ["voxels"]
    assert b"torch" not in pickle.dumps({name: value for name, value in packed.items() if name != "voxels"})


def test_nnunets_pinning_finds_the_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (pinned.append(self), self)[1])
    packed = next(ParcelLoader(cases_of(tmp_path), 2, fusion()))
    pin_memory_of_all_eligible_items_in_dict(packed)
    assert [voxels.numel() for voxels in pinned] == [packed["voxels"].numel()]
    assert BatchMaker(fusion(), 2, CPU)(packed)["data"].shape == (2, 1, 12, 16, 16)
