"""Samples per second on one core through the whole loader: read, crop, augment, fuse, targets for deep supervision.

The yardstick is nnU-Net's own supervised loader with its own augmentation, on the same files and the same patch.

    python benchmarks/loader.py [--patch 128 128 128] [--channels 1] [--rounds 15]
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from timing import arguments, conditions, side_by_side

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.dataloading import SampleLoader
from nnunet_volf.phantoms import LABELS, make_phantom
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.volf.pretext import VolumeFusion
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.pretext.volf.transforms import AugmentEachTransform

BATCH = 2
SCALES = [[1.0] * 3, [0.5] * 3, [0.25] * 3, [0.125] * 3]
PUBLISHED = {"turned": False, "intensity": True}
ROTATION = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)


def write_cases(folder: Path, patch: tuple[int, ...], channels: int) -> list[str]:
    """Write three preprocessed cases, half as large again as the patch, with nnU-Net's chunks for that patch."""
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

    rng = np.random.default_rng(0)
    shape = [round(1.5 * side) for side in patch]
    for number in range(3):
        images, labels = make_phantom(rng, shape, channels)
        images = (images - images.mean()) / images.std()
        locations = {k: np.argwhere(labels[None] == k)[::50] for k in (1, 2)}
        blocks, chunks = comp_blosc2_params(images.shape, patch)
        blocks_seg, chunks_seg = comp_blosc2_params((1, *shape), patch)
        nnUNetDatasetBlosc2.save_case(
            images, labels[None].astype(np.int8), {"class_locations": locations}, str(folder / f"case_{number}"),
            chunks=chunks, blocks=blocks, chunks_seg=chunks_seg, blocks_seg=blocks_seg,
        )  # fmt: skip
    return [f"case_{number}" for number in range(3)]


def given_on(patch: tuple[int, ...], channels: int) -> Given:
    """Return what a plan with this patch gives; of the network, only the patch matters here."""
    stages = ((3,) * len(patch),)
    names = tuple(f"channel {number}" for number in range(channels))
    return Given(patch, (1.0,) * len(patch), names, (1,) * len(patch), (32,), stages, BATCH, patch, "made up")


def main() -> None:
    """Print one table."""
    args = arguments(__doc__)
    patch = tuple(args.patch)

    with tempfile.TemporaryDirectory() as name:
        identifiers = write_cases(Path(name), patch, args.channels)
        crop = [int(side) for side in get_patch_size(patch, ROTATION, ROTATION, ROTATION, (0.85, 1.25))]
        own = nnUNetTrainer.get_training_transforms(patch, ROTATION, SCALES, (0, 1, 2), False)
        supervised = nnUNetDataLoader(
            nnUNetDatasetBlosc2(name, identifiers), BATCH, crop, patch, LabelManager(LABELS, None), 0.33, transforms=own
        )
        cases = UnlabeledCases(name, identifiers)

        def loader(**changes: object) -> SampleLoader:
            settings = VolFSettings.from_mapping({"partner": "other", **changes})
            sampler = replace(
                VolumeFusion(settings, given_on(patch, args.channels)).sampler(),
                finish=DownsampleSegForDSTransform(SCALES),
            )
            if settings.augmentation == "nnunet":
                per_crop = nnUNetTrainer.get_training_transforms(patch, ROTATION, None, (0, 1, 2), False)
                sampler = replace(sampler, augment=AugmentEachTransform(per_crop), padded_crop=tuple(crop))
            return SampleLoader(cases, BATCH, sampler)

        loaders = {
            "nnU-Net, supervised": supervised,
            "VolF, the defaults": loader(),
            "VolF, the published augmentation": loader(**PUBLISHED),
            "VolF, the published augmentation, reuse_crops": loader(**PUBLISHED, reuse_crops=True),
            "VolF, nnU-Net's augmentation": loader(augmentation="nnunet"),
            "VolF, no augmentation": loader(augmentation="none"),
        }
        candidates = {title: (lambda made=made: next(made)) for title, made in loaders.items()}
        rows = side_by_side(candidates, "nnU-Net, supervised", args.rounds, process_time)

    print(conditions())
    print(f"\nBatches of {BATCH}, patch {patch}, {args.channels} channel(s), volumes 1.5 x the patch, one process;")
    print("medians of typical batches, and means: nnU-Net augments most samples lightly and some heavily\n")
    print("| loader | samples / s / core | x nnU-Net | of many (mean) | x nnU-Net |\n|---|---|---|---|---|")
    for row in rows:
        typical, many = f"{BATCH / row.seconds:.1f} | {1 / row.ratio:.2f}", f"{BATCH / row.mean:.1f}"
        print(f"| {row.name} | {typical} | {many} | {rows[0].mean / row.mean:.2f} |")


if __name__ == "__main__":
    main()
