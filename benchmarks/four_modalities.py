r"""Write a task of made-up heads in four sequences, to compare pretext tasks on: a labelled dataset and a pool without.

The dataset goes to nnUNet_raw; the split, which says which cases `nnunet-volf benchmark` draws from and which it tests
on, goes to nnUNet_preprocessed. The pool is a folder of NIfTI files, four to a head. The same seed writes the same
files, and no head is in both.

    python benchmarks/four_modalities.py [--training 20 --test 30] [--pool 100] [--seed 0] [--folder heads]
    nnUNetv2_plan_and_preprocess -d 31 -c 3d_fullres
    nnunet-volf pretrain heads --for 31 --channels 'T1=*_0000.nii.gz' 'T1ce=*_0001.nii.gz' 'T2=*_0002.nii.gz' \
        'FLAIR=*_0003.nii.gz'
    nnunet-volf benchmark 31 --pretrained checkpoint_final.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from labelled_tasks import ENDING, folders, number_of, write_description, write_split, write_volume
from numpy.typing import NDArray

from nnunet_volf.made_up_heads import CLASSES, SEQUENCES, draw_head, render_head

SHAPE, SPACING = (40, 48, 44), (1.0, 1.0, 1.0)
_LABELLED, _POOL = 0, 1


def main() -> None:
    """Write both, and say what to do with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="Dataset031_FourModalities")
    parser.add_argument("--training", type=int, default=20, help="labelled cases that are not tested on")
    parser.add_argument(
        "--test", type=int, default=30, help="labelled cases to test on: the validation cases of fold 0"
    )
    parser.add_argument("--pool", type=int, default=100, help="heads without labels")
    parser.add_argument("--folder", type=Path, default=Path("heads"), help="where these go")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    raw, preprocessed = folders(arguments.dataset)
    names = [case_name(number) for number in range(arguments.training + arguments.test)]
    write_labelled(raw, len(names), arguments.seed)
    write_split(preprocessed, names[: arguments.training], names[arguments.training :])
    write_pool(arguments.folder, arguments.pool, arguments.seed)
    print(f"{raw}: {arguments.training} training cases, {arguments.test} to test on")
    print(f"{arguments.folder}: {arguments.pool} heads without labels")
    number = number_of(arguments.dataset)
    print(f"\nnext: nnUNetv2_plan_and_preprocess -d {number} -c 3d_fullres")
    channels = " ".join(f"'{name}=*_{channel:04d}.nii.gz'" for channel, name in enumerate(SEQUENCES))
    print(f"then: nnunet-volf pretrain {arguments.folder} --for {number} --channels {channels}")


def write_labelled(raw: Path, cases: int, seed: int) -> None:
    """Write a raw nnU-Net dataset."""
    for number in range(cases):
        images, labels = head(seed, _LABELLED, number)
        write_images(raw / "imagesTr", case_name(number), images)
        write_volume(raw / "labelsTr" / f"{case_name(number)}{ENDING}", labels, SPACING)
    write_description(raw, SEQUENCES, CLASSES, cases)


def write_pool(folder: Path, heads: int, seed: int) -> None:
    """Write images only."""
    for number in range(heads):
        images, _ = head(seed, _POOL, number)
        write_images(folder, f"pool_{number:04d}", images)


def head(seed: int, part: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the images and labels of one head; each has random numbers of its own."""
    return render_head(draw_head(np.random.default_rng([seed, part, number])), SHAPE, SPACING)


def case_name(number: int) -> str:
    """Return the name of a labelled case."""
    return f"head_{number:04d}"


def write_images(folder: Path, name: str, images: NDArray[np.float32]) -> None:
    """Write a file for each sequence, named as nnU-Net names channels."""
    for channel, image in enumerate(images):
        write_volume(folder / f"{name}_{channel:04d}{ENDING}", np.round(image).astype(np.int16), SPACING)


if __name__ == "__main__":
    main()
