"""``nnunet-volf preview``: see what a pretraining would see, from the real preprocessed data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_volf import plans
from nnunet_volf.commands.options import add_pretext, method_asked
from nnunet_volf.datasets import preprocess_command
from nnunet_volf.errors import DataError
from nnunet_volf.pretext.catalogue import DEFAULT_METHOD
from nnunet_volf.pretext.volf.settings import SCHEMES
from nnunet_volf.setting_rules import parse_assignments

NAME = "preview"
HELP = "Draw samples of a pretraining from a preprocessed dataset and say what they are like; trains nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("dataset", help="dataset number or name, for example 4")
    parser.add_argument("-p", default=plans.DEFAULT_PLANS, metavar="PLANS", help="[%(default)s]")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="[%(default)s]")
    parser.add_argument("--scheme", choices=SCHEMES, help="Volume Fusion: instead of the plans' scheme")
    add_pretext(parser)
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="try other settings; nothing is saved"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed shows other samples [%(default)s]")
    parser.add_argument("--samples", type=int, default=3, help="how many are drawn [%(default)s]")
    parser.add_argument("-o", type=Path, metavar="PNG", help="picture to write [preview_DATASET_CONFIGURATION.png]")


def run(args: argparse.Namespace) -> int:
    """Write the picture, and print what is known about samples like these."""
    from nnunet_volf.dataloading import SampleLoader

    if args.samples < 1:
        raise DataError(f"--samples is {args.samples}; at least 1 sample can be drawn.")
    method = method_asked(args)
    asked = [*args.set, *([f"scheme={args.scheme}"] if args.scheme else [])]
    dataset = plans.planned_dataset(args.dataset, args.p)
    pretext = dataset.pretext(args.c, parse_assignments(asked), method)

    loader = SampleLoader(_cases(dataset, dataset.configuration(args.c)), 1, pretext.sampler())
    samples = [loader.fixed_sample(args.seed, number) for number in range(args.samples)]
    path = args.o or Path(f"preview_{dataset.name}_{args.c}.png")
    pretext.draw(samples, None, f"{dataset.name}, {args.c}: {method.title}, seed {args.seed}", path)
    for line in pretext.preview(args.seed):
        print(line)
    print(f"\npicture: {path}")
    if asked:
        which = "" if args.pretext == DEFAULT_METHOD else f" --pretext {args.pretext}"
        print(f"next: nnunet-volf settings {dataset.number} -p {args.p} -c {args.c}{which} --set {' '.join(asked)}")
    else:
        print(f"next: {dataset.pretrain_command(args.c, args.p, method)}")
    return 0


def _cases(dataset: plans.PlannedDataset, configuration: dict[str, Any]) -> Any:
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    from nnunet_volf.cases import UnlabeledCases

    folder = dataset.folder / configuration["data_identifier"]
    if not folder.is_dir() or not any(path.is_file() for path in folder.iterdir()):
        command = preprocess_command(dataset.name, dataset.plans["plans_name"])
        raise DataError(f"{folder} holds no preprocessed cases. Preprocess first: {command}.")
    return UnlabeledCases(folder, infer_dataset_class(str(folder)).get_identifiers(str(folder)))
