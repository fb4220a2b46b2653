"""Make the hippocampus task of docs/benchmarks.md of the Medical Segmentation Decathlon's Task04.

80 volumes without their labels to pretrain on, 20 labelled ones to draw from, and 40 to test on; which they are is in
hippocampus.json. No volume is in two of the three. With --training 24, four test cases are labelled ones to watch, too:
`nnunet-volf benchmark --validation-cases 4` then has twenty to train on.

    python benchmarks/hippocampus.py Task04_Hippocampus [--pool hippocampus_pool]
    nnUNetv2_plan_and_preprocess -d 6 -c 3d_fullres
    python benchmarks/small_plans.py 6
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from labelled_tasks import ENDING, folders, number_of, write_description, write_split

CHOSEN = Path(__file__).with_name("hippocampus.json")
LABELS = {"background": 0, "anterior": 1, "posterior": 2}


def main() -> None:
    """Copy what was chosen, and say what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder that has the images and labels anywhere below")
    parser.add_argument("--dataset", default="Dataset006_Hippocampus")
    parser.add_argument("--pool", type=Path, default=Path("hippocampus_pool"), help="where images without labels go")
    parser.add_argument("--training", type=int, default=20, help="labelled cases that are not tested on [%(default)s]")
    arguments = parser.parse_args()
    chosen = {
        part: [f"hippocampus_{number}" for number in numbers]
        for part, numbers in json.loads(CHOSEN.read_text()).items()
    }
    labelled = chosen["train"] + chosen["test"]
    if not len(chosen["train"]) <= arguments.training < len(labelled):
        parser.error(f"--training {arguments.training}: give {len(chosen['train'])} to {len(labelled) - 1}.")
    images, labels = found(arguments.source)
    raw, preprocessed = folders(arguments.dataset)
    for folder in (raw / "imagesTr", raw / "labelsTr", arguments.pool):
        folder.mkdir(parents=True, exist_ok=True)
    for name in labelled:
        shutil.copyfile(images[name], raw / "imagesTr" / f"{name}_0000{ENDING}")
        shutil.copyfile(labels[name], raw / "labelsTr" / f"{name}{ENDING}")
    for name in chosen["pool"]:
        shutil.copyfile(images[name], arguments.pool / f"{name}{ENDING}")
    write_description(raw, ["MRI"], LABELS, len(labelled))
    write_split(preprocessed, labelled[: arguments.training], labelled[arguments.training :])
    number = number_of(arguments.dataset)
    print(f"next: nnUNetv2_plan_and_preprocess -d {number} -c 3d_fullres")
    print(f"then: python benchmarks/small_plans.py {number}")


def found(source: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the images and the labels below a folder, by case."""
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path in source.rglob(f"hippocampus_*{ENDING}"):
        kind = labels if path.parent.name.startswith("labels") else images
        kind[path.name.removesuffix(ENDING)] = path
    return images, labels


if __name__ == "__main__":
    main()
