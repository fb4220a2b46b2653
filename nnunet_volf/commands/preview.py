"""``nnunet-volf preview``: see what a pretraining would see, from the real preprocessed data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_volf import plans
from nnunet_volf.datasets import preprocess_command
from nnunet_volf.errors import DataError
from nnunet_volf.setting_rules import parse_assignments
from nnunet_volf.settings import SCHEMES, VolFSettings

NAME = "preview"
HELP = "Draw fusions of a preprocessed dataset and say how the classes are distributed; trains nothing"

# Label maps drawn to measure the class shares; painting them reads no data.
_MAPS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("dataset", help="dataset number or name, for example 4")
    parser.add_argument("-p", default=plans.DEFAULT_PLANS, metavar="PLANS", help="[%(default)s]")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="[%(default)s]")
    parser.add_argument("--scheme", choices=SCHEMES, help="instead of the plans' scheme")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="try other settings; nothing is saved"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed shows other fusions [%(default)s]")
    parser.add_argument("--samples", type=int, default=3, help="how many fusions are drawn [%(default)s]")
    parser.add_argument("-o", type=Path, metavar="PNG", help="picture to write [preview_DATASET_CONFIGURATION.png]")


def run(args: argparse.Namespace) -> int:
    """Write the picture, print the table."""
    from nnunet_volf.dataloading import FusionLoader
    from nnunet_volf.panels import PanelCase, draw_panel
    from nnunet_volf.recipes import pair_recipe

    if args.samples < 1:
        raise DataError(f"--samples is {args.samples}; at least 1 fusion can be drawn.")
    overrides = parse_assignments(args.set) | ({"scheme": args.scheme} if args.scheme else {})
    dataset = plans.planned_dataset(args.dataset, args.p)
    configuration = dataset.configuration(args.c)
    settings = dataset.settings(args.c, overrides)
    patch = tuple(configuration["patch_size"])

    loader = FusionLoader(_cases(dataset, configuration), 1, pair_recipe(patch, settings))
    samples = [loader.fixed_sample(args.seed, number) for number in range(args.samples)]
    path = args.o or Path(f"preview_{dataset.name}_{args.c}.png")
    title = f"{dataset.name}, {args.c}: {settings.scheme}, partner {settings.partner}, seed {args.seed}"
    draw_panel([PanelCase.from_sample(sample) for sample in samples], settings.coefficients, title, path)

    _print_shares(patch, settings, args.seed)
    if settings.augmentation == "nnunet":
        print("The picture shows the crops before nnU-Net's augmentation.")
    print(f"\npicture: {path}")
    if overrides:
        kept = [*args.set, *([f"scheme={args.scheme}"] if args.scheme else [])]
        print(f"next: nnunet-volf settings {dataset.number} -p {args.p} -c {args.c} --set {' '.join(kept)}")
    else:
        print(f"next: {dataset.pretrain_command(args.c, args.p)}")
    return 0


def _cases(dataset: plans.PlannedDataset, configuration: dict[str, Any]) -> Any:
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    from nnunet_volf.cases import UnlabeledCases

    folder = dataset.folder / configuration["data_identifier"]
    if not folder.is_dir() or not any(path.is_file() for path in folder.iterdir()):
        command = preprocess_command(dataset.name, dataset.plans["plans_name"])
        raise DataError(f"{folder} holds no preprocessed cases. Preprocess first: {command}.")
    return UnlabeledCases(folder, infer_dataset_class(str(folder)).get_identifiers(str(folder)))


def _print_shares(patch: Sequence[int], settings: VolFSettings, seed: int) -> None:
    import numpy as np

    from nnunet_volf.fusion import draw_layout, paint
    from nnunet_volf.randomness import sample_rng
    from nnunet_volf.shares import class_shares

    classes = settings.coefficients + 1
    drawn = np.array(
        [
            np.bincount(paint(draw_layout(sample_rng(seed, i), patch, settings), patch).ravel(), minlength=classes)
            for i in range(_MAPS)
        ]
    ) / np.prod(patch)
    print(f"patch {tuple(patch)}, {settings.scheme} maps, {_MAPS} drawn")
    print(f"{'class':>5} {'coefficient':>11} {'expected':>9} {'drawn':>7} {'smallest':>9} {'largest':>8}")
    for k, expected in enumerate(class_shares(patch, settings)):
        share = drawn[:, k]
        print(
            f"{k:5} {f'{k}/{settings.coefficients}':>11} {expected:9.1%} {share.mean():7.1%} {share.min():9.1%} "
            f"{share.max():8.1%}"
        )
    largest_fused = drawn[:, 1:].max(axis=1)
    print(f"background is the largest class in {np.mean(drawn[:, 0] > largest_fused):.0%} of the maps")
