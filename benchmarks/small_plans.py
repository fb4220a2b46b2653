"""Write plans with a network that a CPU trains in minutes: nnU-Net's own, with half of its widths or as asked for.

python benchmarks/small_plans.py 6 [--features 16 32 64 128] [--patch 40 56 40] [--batch 2] [--as Small]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from nnunet_volf.datasets import PREPROCESSED, find_dataset


def main() -> None:
    """Change a copy of the dataset's plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION")
    parser.add_argument("--features", type=int, nargs="+", metavar="N", help="of each stage [half of nnU-Net's]")
    parser.add_argument("--patch", type=int, nargs=3, metavar="N", help="[nnU-Net's]")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--as", dest="name", default="Small")
    arguments = parser.parse_args()
    folder = find_dataset(arguments.dataset, PREPROCESSED)
    plans: dict[str, Any] = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    configuration = plans["configurations"][arguments.c]
    network = configuration["architecture"]["arch_kwargs"]
    halved = [features // 2 for features in network["features_per_stage"]]
    network["features_per_stage"] = arguments.features or halved
    if len(network["features_per_stage"]) != len(halved):
        parser.error(f"--features needs {len(halved)} numbers, one for each stage.")
    configuration["batch_size"] = arguments.batch
    configuration["patch_size"] = arguments.patch or configuration["patch_size"]
    plans["plans_name"] = arguments.name
    (folder / f"{arguments.name}.json").write_text(json.dumps(plans, indent=4), encoding="utf-8")
    print(
        f"{folder / arguments.name}.json: patch {configuration['patch_size']}, {network['features_per_stage']} features"
    )


if __name__ == "__main__":
    main()
