"""Write a task of made-up trunks with ten labelled structures, which only their places tell apart.

How bright a structure is, is drawn for each body, and lumps that look like it lie elsewhere. The same seed writes the
same files, and no body is in two parts.

    python benchmarks/ten_structures.py [--training 20 --test 30] [--pool 80] [--folder trunks] [--seed 0]
    nnUNetv2_plan_and_preprocess -d 7 -c 3d_fullres
    python benchmarks/small_plans.py 7
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from labelled_tasks import ENDING, folders, number_of, write_description, write_split, write_volume
from numpy.typing import NDArray

from nnunet_volf.anatomy import class_names, draw_body, render

ORGANS = 10
SHAPE, SPACING = (36, 32, 36), (1.2, 1.2, 1.2)  # nearly a whole trunk
_LABELLED, _POOL = 0, 1


def main() -> None:
    """Write both, and say what to do with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="Dataset007_TenStructures")
    parser.add_argument("--training", type=int, default=20, help="labelled cases that are not tested on")
    parser.add_argument("--test", type=int, default=30, help="the validation cases of fold 0")
    parser.add_argument("--pool", type=int, default=80, help="bodies without labels")
    parser.add_argument("--folder", type=Path, default=Path("trunks"), help="where these go")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    raw, preprocessed = folders(arguments.dataset)
    names = [f"trunk_{number:04d}" for number in range(arguments.training + arguments.test)]
    for number, name in enumerate(names):
        image, labels = trunk(arguments.seed, _LABELLED, number)
        write_volume(raw / "imagesTr" / f"{name}_0000{ENDING}", image, SPACING)
        write_volume(raw / "labelsTr" / f"{name}{ENDING}", labels, SPACING)
    write_description(raw, ["made-up scan"], class_names(ORGANS), len(names))
    write_split(preprocessed, names[: arguments.training], names[arguments.training :])
    for number in range(arguments.pool):
        image, _ = trunk(arguments.seed, _POOL, number)
        write_volume(arguments.folder / f"pool_{number:04d}{ENDING}", image, SPACING)
    number = number_of(arguments.dataset)
    print(f"next: nnUNetv2_plan_and_preprocess -d {number} -c 3d_fullres")
    print(f"then: python benchmarks/small_plans.py {number}")


def trunk(seed: int, part: int, number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return image and labels of one body; each has random numbers of its own."""
    image, labels = render(draw_body(np.random.default_rng([seed, part, number]), ORGANS), SHAPE, SPACING)
    return np.round(image).astype(np.int16), labels


if __name__ == "__main__":
    main()
