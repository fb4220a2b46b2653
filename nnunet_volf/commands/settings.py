"""``nnunet-volf settings``: show the pretraining settings of a dataset, or change them in a plans file of our own."""

from __future__ import annotations

import argparse
import json

from nnunet_volf import plans
from nnunet_volf.setting_rules import parse_assignments
from nnunet_volf.settings import PRESETS, VolFSettings

NAME = "settings"
HELP = "Show the pretraining settings of a dataset, or change them (--set epochs=200 scheme=boxes)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("dataset", help="dataset number or name, for example 4")
    parser.add_argument("-p", default=plans.DEFAULT_PLANS, metavar="PLANS", help="plans to start from [%(default)s]")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="[%(default)s]")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings to change; null resets one"
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), help="the numbers of a publication")
    parser.add_argument(
        "--as",
        dest="target",
        metavar="PLANS",
        help=f"plans file to write [{plans.OUR_PLANS}, or -p where that is one of ours]; others are left as they are",
    )


def run(args: argparse.Namespace) -> int:
    """Print the settings in force, after writing changes if there are any."""
    dataset = plans.planned_dataset(args.dataset, args.p)
    changes = parse_assignments(args.set)
    if args.preset:
        changes["preset"] = args.preset
    plans_name = args.p
    if changes or args.target:
        plans_name = args.target or (args.p if args.p.startswith("VolF") else plans.OUR_PLANS)
        dataset = plans.write_settings(dataset, args.c, changes, plans_name)
    settings = dataset.settings(args.c)

    defaults = VolFSettings().to_mapping()
    print(f"{dataset.name}, {args.c}, {plans_name} (* differs from the default)")
    for name, value in settings.to_mapping().items():
        mark = "*" if value != defaults[name] else " "
        print(f"{mark} {name:22} {json.dumps(value)}")
    print(f"\nnext: {dataset.pretrain_command(args.c, plans_name)}")
    return 0
